"""Writes test/fixtures/tokenizer: a small SentencePiece model, and what the Python libraries make of texts with it.

Run from the repository root with a Python that has sentencepiece, tensorflow and keras_hub:

    python test/reference/make_tokenizer_fixtures.py [VOCABULARY.spm]

With the path of Gemma 3 270M's `vocabulary.spm`, also writes `real_270m.json`: the same for the real vocabulary.

  vocabulary.spm   trained on the texts below, with the settings and the kinds of pieces of Gemma's model
  small.json       {texts: [[text, ids, decoded]], sequences: [[ids, decoded]], long: [[unit, count, length, sha256]],
                    variants: [{name, proto, texts, sequences}], kerashub: {...}}
  types.json       {models: [{name, proto, texts, sequences}]}: models of all types; here `proto` is gzipped
  real_270m.json   {texts, sequences, long}

`sha256` is the hash of the ids in decimal, joined by commas. `proto` is a model of a few pieces in base64, with
settings that Gemma does not use.
"""

import base64
import gzip
import hashlib
import io
import json
import os
import random
import re
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2 as model_pb2

FOLDER = os.path.join(os.path.dirname(__file__), "..", "fixtures", "tokenizer")

# These texts were written for this file.
CORPUS = """
The river was high that spring, and the old bridge shook whenever a cart rolled over it.
Nobody in the village could remember who had built the bridge, or what it had cost them.
She counted the stones one by one: seventeen on the left, nineteen on the right, none in the middle.
When the rain stopped, the children ran outside and looked for frogs between the reeds.
A model reads one token after another and guesses which one comes next; it never sees the letters.
If the answer is wrong, try again with another question, and write down what you asked first.
def greet(name): return "Hello, " + name + "!"
for (let i = 0; i < values.length; i++) { total += values[i]; }
import numpy as np; print(np.zeros((3, 4), dtype="float32"))
In 1969 there were 3 of them, in 2024 there are 12,345.67 and by 2050 there might be 900.
Der alte Müller fährt heute früh über die schmale Brücke und grüßt die Kühe am Straßenrand.
Morgen früh wollen wir zusammen frühstücken, wenn das Wetter schön ist und keiner verschläft.
Le garçon a mangé une pêche près de la fenêtre, où sa mère l'attendait déjà depuis longtemps.
L'été dernier, nous avons traversé la forêt à pied jusqu'à la mer, sans jamais nous presser.
El niño pequeño soñaba con montañas, pingüinos y un tren que cruzaba el país de noche.
O avô não sabia que as crianças já tinham comido o pão com açúcar e canela.
Vår båt är gammal men går ännu över sjön när isen har smält på våren.
Žluťoučký kůň běžel přes mokrou louku a za ním utíkali dva malí psi.
Wczoraj późnym wieczorem źrebię uciekło za płot, bo ktoś zostawił otwartą bramę.
Bahçedeki yaşlı ağaç geçen kış kırıldı, çocuklar şimdi gövdesinde oturuyor.
Con mèo nhỏ ngủ trên mái nhà, còn trời thì đang mưa rất to ở phía bên kia sông.
Старый мост скрипел под телегами, но никто в деревне не помнил, кто его построил.
Завтра утром мы пойдём к реке и посмотрим, не поднялась ли вода после дождя.
Старий млин стояв над річкою, і діти щодня бігали туди ловити рибу.
Το παλιό γεφύρι έτριζε κάτω από τα κάρα, μα κανείς δεν θυμόταν ποιος το έχτισε.
הגשר הישן חרק מתחת לעגלות, ואיש בכפר לא זכר מי בנה אותו.
كان الجسر القديم يهتز تحت العربات، ولم يتذكر أحد في القرية من بناه.
پل قدیمی زیر گاری‌ها می‌لرزید و هیچ‌کس به یاد نداشت چه کسی آن را ساخته است.
पुराना पुल गाड़ियों के नीचे काँपता था और गाँव में किसी को याद नहीं था कि उसे किसने बनाया।
পুরোনো সেতুটি গাড়ির নিচে কাঁপত, আর গ্রামের কেউ মনে করতে পারত না কে এটি বানিয়েছিল।
பழைய பாலம் வண்டிகளின் கீழ் அதிர்ந்தது, அதை யார் கட்டினார்கள் என்று யாருக்கும் நினைவில்லை.
สะพานเก่าสั่นทุกครั้งที่เกวียนผ่าน และไม่มีใครในหมู่บ้านจำได้ว่าใครสร้างมันขึ้นมา
ძველი ხიდი ურმების ქვეშ ირყეოდა და სოფელში არავის ახსოვდა, ვინ ააშენა.
Հին կամուրջը դողում էր սայլերի տակ, և գյուղում ոչ ոք չէր հիշում, թե ով է այն կառուցել։
አሮጌው ድልድይ በጋሪዎች ስር ይንቀጠቀጥ ነበር፤ ማን እንደሠራውም የሚያስታውስ አልነበረም።
那座旧桥在马车经过时总是摇晃，村里没有人记得是谁建造了它。
明天早上我们去河边看看，下雨以后水是不是涨高了。
古い橋は荷車が通るたびに揺れたが、誰がそれを建てたのか村の誰も覚えていなかった。
あしたの朝、みんなで川へ行って、雨のあとで水が増えたかどうか見てみよう。
낡은 다리는 수레가 지나갈 때마다 흔들렸지만 누가 그것을 지었는지 마을에서 아무도 기억하지 못했다.
내일 아침 우리는 강가에 가서 비가 온 뒤에 물이 불었는지 볼 것이다.
👍 good, 👎 bad, ❤️ love, 😀😃😄 smile, 🎉🎉 party
"""

TAGS = ["table", "tr", "td", "h1", "h2", "b", "i", "code", "ul", "li", "div"]
USER_DEFINED = [
    "<mask>",
    "[multimodal]",
    *[f"<unused{i}>" for i in range(12)],
    "<start_of_turn>",
    "<end_of_turn>",
    *["\n" * i for i in range(1, 11)],
    *["\u2581" * i for i in range(2, 12)],
    *["\t" * i for i in range(1, 4)],
    *[f"<{tag}>" for tag in TAGS],
    *[f"</{tag}>" for tag in TAGS],
    "<img>",
    "</img>",
    "<start_of_image>",
    "<end_of_image>",
]

PHRASES = """
Hello world|hello|Hello, world!|The quick brown fox jumped over the lazy dog.|don't|it's|naïve café|ÀÉÎÕÜ
a|b|I|.|...|?!|-|--|---|_|__init__|camelCaseAndSnake_case|UPPER CASE|MiXeD|x=1;y+=2|a/b\\c|"quoted"|'single'|`code`
http://example.com/a?b=c&d=%20#frag|user.name+tag@example.org|/usr/local/bin|C:\\Windows|192.168.0.1|::1|#hashtag @user
0|1|12|123|1234|12345|007|3.14159|1e-10|-1|1,000,000|2024-02-29|12:34:56|0xFF|½|²³|٠١٢٣|०१२३|①②|Ⅻ|１２３
The river was high that spring|seventeen on the left|nobody could remember|überfährt|Straßenrand|Kühe
garçon|l'été|où|niño|pingüino|avô|açúcar|båt|sjön|kůň|žluťoučký|źrebię|płot|ağaç|kırıldı|mái nhà|đang mưa
мост|Завтра утром|щодня|γεφύρι|κανείς|הגשר|בכפר|الجسر|القرية|گاری‌ها|पुराना पुल|गाँव|সেতুটি|পাল|பாலம்|สะพานเก่า
ხიდი|կամուրջը|ድልድይ|那座旧桥|明天早上|古い橋|荷車が通る|낡은 다리|기억하지|ᄒᆞᆫ|ﾊﾝｶｸ|ＦＵＬＬ|ꦗꦮ|ᏣᎳᎩ|ᠮᠣᠩᠭᠣᠯ|བོད་|မြန်မာ|ខ្មែរ|ລາວ|සිංහල
తెలుగు|ಕನ್ನಡ|മലയാളം|ગુજરાતી|ਪੰਜਾਬੀ|ଓଡ଼ିଆ|ܣܘܪܝܝܐ|ދިވެހި|ⵜⵉⴼⵉⵏⴰⵖ|ꯃꯤꯇꯩ|𐍈𐌰𐌹|𓀀𓁐|𝔘𝔫𝔦|𝟘𝟙|ⰃⰎⰀ|ᚠᚢᚦ|漢字𠀋𠮷
👍|👍🏽|😀😃😄|❤️|❤|👩‍👩‍👧‍👦|🏳️‍🌈|🧑🏿‍🚀|🇩🇪🇫🇷|1️⃣|🏴󠁧󠁢󠁥󠁮󠁧󠁿|👨‍❤️‍💋‍👨|🎉🎉|☺︎☺️|🫠
<bos>|<eos>|<pad>|<unk>|<mask>|<s>|</s>|<0x0A>|<0xE2>|<0xe2>|<bos>Hello|a<eos>b|<unused0>|<unused11>|<unused12>
<unused99>
<start_of_turn>user|<end_of_turn>|<start_of_image><img><img><end_of_image>|<start_of_image|start_of_image>|< img>|<IMG>
<table><tr><td>x</td></tr></table>|<h1>Title</h1>|<h1|h1>|<h7>|<<b>>|</b|<b><|<<<<|>>>>|<b>bold</b> <i>it</i>
[multimodal]
[multimodal|<code>x = 1</code>|<ul><li>a</li></ul>|<start_of_<start_of_turn>|<mask><mask>|x<mask>y|<div class="a">
"""

EXACT = [
    "",
    " ",
    "  ",
    "   ",
    " a",
    "a ",
    " a ",
    "a b",
    "a  b",
    "a   b",
    "\n",
    "\r",
    "\r\n",
    "\r\n\r\n",
    "\t",
    "a\tb",
    "\t\t\t\t",
    "\n \n",
    " \n ",
    "\n\n \n",
    "a\nb\n\nc\n\n\nd",
    "\x0b\x0c",
    "    indented\n        more\n",
    "\u2581",
    "\u2581\u2581",
    "a\u2581b",
    " \u2581 ",
    "\u2581a",
    "\u00a0",
    "\u3000",
    "\u2003\u2009",
    "\u200b",
    "\u200d",
    "\u200e\u200f",
    "\u2028\u2029",
    "\ufeff",
    "\ufeffHello",
    "a\ufeffb",
    "\ufffd",
    "\ufffd\ufffd",
    "\ufffe\uffff",
    "\U0010ffff",
    "\ue000\uf8ff",
    "\x00",
    "a\x00b",
    "\x00\x00\x00",
    "\x00<b>\x00",
    "\x01\x02\x1f\x7f",
    "\x80\x9f",
    "\ud800",
    "\udfff",
    "a\ud83db",
    "\ude00\ud83d",
    "\ud800\ud800",
    "\ud83d\U0001f600\ude00",
    "<b>\ud800</b>",
    "e\u0301",
    "\u00e9",
    "a\u0300\u0301\u0302\u0303\u0304\u0305",
    "\u0301",
    " \u0301",
    "Z\u0351\u036b\u0343a\u0329\u0349l\u034ag\u0340o\u0321",
    "\u1100\u1161\u11a8",
    "\uac01",
    "\u0e01\u0e33\u0e48",
    "\u0915\u094d\u0937",
    "\u202eabc\u202c",
    "\ufb01\ufb02",
    "\u212b\u00c5A\u030a",
    "\u0130\u0131I\u0307",
    "\u1e9e\u00df",
    "\U0001f600" * 10,
    "a" * 100,
    "ab" * 60,
    "=" * 90,
    "-" * 33,
    "<b>" * 20,
    "<" * 20 + "b>",
    "\n" * 9 + " " * 9 + "\n" * 9,
    "<start_of_turn>user\nWhat is a tensor?<end_of_turn>\n<start_of_turn>model\n",
    "<start_of_turn>model\nA tensor is an array.<end_of_turn>\n",
    "\n\n<start_of_image>" + "<img>" * 8 + "<end_of_image>\n\n",
    "def f(x):\n    if x > 0:\n        return x ** 2\n    return -x\n",
    '{"key": [1, 2, {"a": null}], "b": "\\n"}',
    *[" " * n for n in (4, 10, 11, 12, 13, 22, 23, 30, 31, 32, 33, 62, 63, 100)],
    *["\n" * n for n in (4, 9, 10, 11, 12, 20, 21, 30, 31, 32, 33, 100)],
    *["x" + " " * n + "y" for n in (4, 11, 12, 31, 32)],
]

LONG = [["a", 100_000], ["The river was high that spring. ", 3_200], ["\u6a4b", 33_000], ["xyz", 33_333]]
LONG += [[" ", 100_000]]


def as_utf16(text):
    """Returns the text as JavaScript's TextEncoder encodes it: unpaired surrogates become U+FFFD."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def make_texts(seed, count):
    """A pseudo-random mixture of some texts."""
    rng = random.Random(seed)
    words = [word for line in CORPUS.splitlines() for word in line.split()]
    phrases = PHRASES.strip().replace("\n", "|").split("|")
    ranges = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x600, 0x7BF), (0x900, 0xDFF)]
    ranges += [(0xE00, 0x11FF), (0x1200, 0x1FFF), (0x2000, 0x2BFF), (0x3040, 0x9FFF), (0xAC00, 0xD7A3)]
    ranges += [(0xF900, 0xFFFF), (0x10000, 0x1FFFF), (0x20000, 0x10FFFF), (0, 0x1F)]

    def part():
        kind = rng.randrange(8)
        if kind == 0:
            return rng.choice(USER_DEFINED).replace("\u2581", " ")
        if kind == 1:
            return rng.choice(" \n\t") * rng.randrange(1, 40)
        if kind == 2:
            return "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randrange(1, 6)))
        if kind == 3:
            low, high = rng.choice(ranges)
            return "".join(chr(rng.randint(low, high)) for _ in range(rng.randrange(1, 10)))
        if kind == 4:
            return bytes(rng.randrange(256) for _ in range(rng.randrange(1, 8))).decode("utf-8", "replace")
        if kind == 5:
            return rng.choice(phrases)
        if kind == 6:
            tag = rng.choice(USER_DEFINED)
            return tag[: rng.randrange(len(tag) + 1)]
        return rng.choice(words) + rng.choice(["", " ", ". ", "\n"])

    randoms = ["".join(part() for _ in range(rng.choice([1, 2, 3, 5, 8]))) for _ in range(count)]
    return [*EXACT, *phrases, *CORPUS.strip().splitlines(), *randoms]


def make_sequences(seed, processor, count):
    """Sequences of ids: bytes that form characters and bytes that do not, among other pieces."""
    rng = random.Random(seed)
    size = processor.vocab_size()
    byte = [processor.piece_to_id(f"<0x{value:02X}>") for value in range(256)]
    special = [processor.pad_id(), processor.eos_id(), processor.bos_id(), processor.unk_id()]
    word = processor.encode("river")[0]
    character = list("\u20ac".encode())
    astral = list("\U0001f600".encode())
    raw = [
        *[[value] for value in (0x00, 0x41, 0x7F, 0x80, 0xBF, 0xC0, 0xC1, 0xC2, 0xE0, 0xED, 0xEF)],
        *[[value] for value in (0xF0, 0xF4, 0xF5, 0xFF)],
        character,
        astral,
        *[character[:n] for n in (1, 2)],
        *[astral[:n] for n in (1, 2, 3)],
        [*astral[:3], 0x41],
        [*astral[:3], *astral],
        [*character[:2], *character],
        [0xC0, 0x80],
        [0xC1, 0xBF],
        [0xE0, 0x80, 0x80],
        [0xE0, 0x9F, 0xBF],
        [0xE0, 0xA0, 0x80],
        [0xED, 0x9F, 0xBF],
        [0xED, 0xA0, 0x80],
        [0xED, 0xBF, 0xBF],
        [0xEF, 0xBF, 0xBD],
        [0xEF, 0xBB, 0xBF],
        [0xEF, 0xBF, 0xBF],
        [0xF0, 0x80, 0x80, 0x80],
        [0xF0, 0x8F, 0xBF, 0xBF],
        [0xF0, 0x90, 0x80, 0x80],
        [0xF4, 0x8F, 0xBF, 0xBF],
        [0xF4, 0x90, 0x80, 0x80],
        [0xF5, 0x80, 0x80, 0x80],
        [0xF8, 0x88, 0x80, 0x80, 0x80],
    ]
    sequences = [[byte[value] for value in values] for values in raw]
    sequences += [[*sequence, word] for sequence in sequences]
    # Any piece between two bytes separates them, even one without text.
    for between in (*special, word):
        sequences.append([byte[0xE2], between, byte[0x82], byte[0xAC]])
        sequences.append([byte[0xE2], byte[0x82], between, byte[0xAC]])
    sequences += [[], *[[id] for id in special], special, special[::-1], [special[3]] * 3, [word, *special, word]]
    for _ in range(count):
        share = rng.random()
        sequence = []
        for _ in range(rng.randrange(1, 16)):
            if rng.random() < share:
                sequence.append(rng.choice(byte[0x80:] if rng.random() < 0.7 else byte))
            else:
                sequence.append(rng.choice([rng.randrange(size), rng.randrange(min(size, 600)), rng.choice(special)]))
        sequences.append(sequence)
    return sequences


def describe(processor, texts, sequences, long=()):
    def encode(text):
        return processor.encode(as_utf16(text))

    return {
        "texts": [[text, encode(text), processor.decode(encode(text))] for text in dict.fromkeys(texts)],
        "sequences": [[sequence, processor.decode(sequence)] for sequence in sequences],
        "long": [[unit, count, *digest(encode(unit * count))] for unit, count in long],
    }


def digest(ids):
    return len(ids), hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()


def train(path):
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.strip().splitlines() * 2),
        model_writer=model,
        model_type="bpe",
        vocab_size=1500,
        character_coverage=0.99,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        user_defined_symbols=USER_DEFINED,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        unk_piece="<unk>",
        num_threads=1,
        minloglevel=2,
    )
    with open(path, "wb") as file:
        file.write(model.getvalue())


def make_variants():
    """Models of a few pieces, with settings that Gemma's does not use."""
    kinds = model_pb2.ModelProto.SentencePiece
    words = ["ab", "\u2581a", "bc", "abc", "\u2581ab", "\u2581abc", "cc", "abcc", "ca", "de", "cade", "\u2581\u2581"]

    def make(name, unused=(), control=None, equal=False, byte_fallback=False, unk_surface=None, **normalizer):
        model = model_pb2.ModelProto()

        def add(piece, score=0.0, kind=kinds.NORMAL):
            model.pieces.add(piece=piece, score=score, type=kind)

        add("<unk>", kind=kinds.UNKNOWN)
        add("<s>", kind=kinds.CONTROL)
        add("</s>", kind=kinds.CONTROL)
        if control is not None:
            add(control, kind=kinds.CONTROL)
        for piece in ("<x>", "<x><y>", "b c", "d "):
            add(piece, kind=kinds.USER_DEFINED)
        for i, piece in enumerate([*words, *"abcde\u2581"]):
            if piece == control:
                continue
            add(piece, -1.0 if equal else -float(i), kinds.UNUSED if piece in unused else kinds.NORMAL)
        if byte_fallback:
            for value in range(256):
                add(f"<0x{value:02X}>", kind=kinds.BYTE)
        model.trainer_spec.model_type = model_pb2.TrainerSpec.BPE
        model.trainer_spec.byte_fallback = byte_fallback
        if unk_surface is not None:
            model.trainer_spec.unk_surface = unk_surface
        model.normalizer_spec.name = "identity"
        model.normalizer_spec.add_dummy_prefix = normalizer.get("prefix", False)
        model.normalizer_spec.remove_extra_whitespaces = normalizer.get("remove", False)
        return name, model.SerializeToString()

    protos = [
        make("no byte fallback"),
        make("unknown surface", unk_surface="?!"),
        make("equal scores", equal=True),
        make("dummy prefix", prefix=True),
        make("extra whitespace", remove=True),
        make("dummy prefix and extra whitespace", prefix=True, remove=True),
        make("dummy prefix and byte fallback", prefix=True, byte_fallback=True),
        make("extra whitespace and byte fallback", remove=True, byte_fallback=True),
        make("a letter that is a control piece", control="c"),
        make("unused pieces", unused=("ab", "abc", "\u2581ab", "de")),
        make("unused pieces with equal scores", unused=("abc", "bc", "ca"), equal=True),
    ]
    rng = random.Random(5)
    alphabet = ["a", "b", "c", "d", "e", " ", "  ", "z", "\u2581", "<x>", "<x><y>", "b c", "d ", "\u00e9"]
    texts = ["", " ", "   ", "abc", " abc ", "  abc  abcc  ", "zz a zz", "\u2581", "\u2581 a", "d  d", "b c b  c"]
    texts += ["<s>a"]
    texts += ["".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 14))) for _ in range(30)]
    variants = []
    for name, proto in protos:
        processor = spm.SentencePieceProcessor(model_proto=proto)
        size = processor.vocab_size()
        sequences = [[1, 0, 1], [0, 0], [1, 1]]
        sequences += [[rng.randrange(min(size, 25)) for _ in range(rng.randrange(1, 6))] for _ in range(25)]
        if size > 256:
            byte = size - 256
            sequences += [[byte + 0xC3, 1, 8], [byte + 0x20, 8, 9], [1, byte + 0xC3, byte + 0xA9, 8]]
        description = describe(processor, texts, sequences)
        del description["long"]
        variants.append({"name": name, "proto": base64.b64encode(proto).decode(), **description})
    return variants


RULES = [
    *[(chr(0xFF21 + i), chr(0x41 + i)) for i in range(26)],
    ("\u2460", "1"),
    ("\ufb01", "fi"),
    ("\u00a0", " "),
    ("\u3000", "  "),
    ("\u200b", ""),
    ("e\u0301", "\u00e9"),
    ("e\u0301\u0327", "E"),
    ("\u00bd", " 1\u20442 "),
    ("\u2581", " "),
]


def rules_file(folder):
    """The rules as SentencePiece reads them: code points in hexadecimal."""
    path = os.path.join(folder, "rules.tsv")
    with open(path, "w", encoding="ascii") as file:
        for source, target in RULES:
            file.write("\t".join(" ".join(f"{ord(c):X}" for c in text) for text in (source, target)) + "\n")
    return path


def make_types():
    """Models of all types, trained with the settings that change how they encode."""
    symbols = ["<start_of_image>", "\u2581the", "river bank", "fi"]
    identity = {"normalization_rule_name": "identity"}
    kinds = [
        ("unigram", "unigram", {"normalization_rule_name": "nmt_nfkc_cf"}),
        ("unigram, identity", "unigram", identity),
        ("unigram, bytes and symbols", "unigram", {**identity, "byte_fallback": True, "user_defined_symbols": symbols}),
        ("unigram, rules and symbols", "unigram", {"rules": True, "user_defined_symbols": symbols}),
        ("unigram, all spaces", "unigram", {"rules": True, "remove_extra_whitespaces": False}),
        ("unigram, no prefix", "unigram", {"rules": True, "add_dummy_prefix": False}),
        ("unigram, suffix", "unigram", {"rules": True, "treat_whitespace_as_suffix": True}),
        ("bpe, rules", "bpe", {"rules": True, "byte_fallback": True}),
        ("bpe, suffix", "bpe", {**identity, "treat_whitespace_as_suffix": True, "user_defined_symbols": symbols}),
        ("bpe, suffix, all spaces", "bpe", {"rules": True, "treat_whitespace_as_suffix": True,
                                            "remove_extra_whitespaces": False}),
        ("word", "word", {"rules": True}),
        ("word, bytes and symbols", "word", {**identity, "byte_fallback": True, "user_defined_symbols": symbols}),
        ("word, suffix", "word", {"rules": True, "treat_whitespace_as_suffix": True}),
        ("char", "char", {"rules": True}),
        ("char, bytes and symbols", "char", {**identity, "byte_fallback": True, "user_defined_symbols": symbols,
                                             "add_dummy_prefix": False, "remove_extra_whitespaces": False}),
    ]
    rng = random.Random(11)
    parts = [source for source, _ in RULES] + symbols + ["the river", " ", "  ", "bridge", "<s>", "<unk>", "\u00e9",
                                                        "e", "\u0301", "\U0001f600", "River", "\u0130\u00df", "fish"]
    texts = ["", " ", "   ", "\u00a0", "\u200b", "\u3000\u200b ", " the  river ", "\u2581\u2581the", "<start_of_image>",
             "\uff21\uff22 \ufb01sh \u00bd", "\u212b \uff76\uff9e \u1e9b\u0323", *EXACT[:20]]
    texts += ["".join(rng.choice(parts) for _ in range(rng.randrange(1, 12))) for _ in range(60)]
    texts += CORPUS.strip().splitlines()[:6]
    models = []
    for name, kind, settings in kinds:
        settings = dict(settings)
        with tempfile.TemporaryDirectory() as folder:
            rules = {"normalization_rule_tsv": rules_file(folder)} if settings.pop("rules", False) else {}
            proto = train_type(kind, **settings, **rules)
        models.append(describe_type(name, proto, texts, rng))
    # No option of the trainer changes these.
    model = model_pb2.ModelProto()
    model.ParseFromString(train_type("unigram", **identity))
    model.normalizer_spec.escape_whitespaces = False
    models.append(describe_type("unigram, plain spaces", model.SerializeToString(), texts, rng))
    model.normalizer_spec.remove_extra_whitespaces = False
    models.append(describe_type("unigram, all plain spaces", model.SerializeToString(), texts, rng))
    model.normalizer_spec.escape_whitespaces = True
    for piece in model.pieces[10:40:3]:
        piece.type = model_pb2.ModelProto.SentencePiece.UNUSED
    models.append(describe_type("unigram, unused pieces", model.SerializeToString(), texts, rng))
    for piece in model.pieces:
        piece.score = -1.0
    models.append(describe_type("unigram, equal scores", model.SerializeToString(), texts, rng))
    return models


def train_type(kind, **settings):
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.strip().splitlines()[:16] * 2),
        model_writer=model,
        model_type=kind,
        vocab_size=700,
        hard_vocab_limit=False,
        character_coverage=0.99,
        num_threads=1,
        minloglevel=2,
        **settings,
    )
    return model.getvalue()


def describe_type(name, proto, texts, rng):
    processor = spm.SentencePieceProcessor(model_proto=proto)
    size = processor.vocab_size()
    sequences = [[0], [1], [0, 0], [1, 0, 2]]
    sequences += [[rng.randrange(size) for _ in range(rng.randrange(1, 8))] for _ in range(20)]
    description = describe(processor, texts, sequences)
    del description["long"]
    return {"name": name, "proto": base64.b64encode(gzip.compress(proto, 9, mtime=0)).decode(), **description}


def ask_kerashub(path):
    """What KerasHub's Gemma3Tokenizer makes of the small vocabulary."""
    import keras_hub

    tokenizer = keras_hub.models.Gemma3Tokenizer(proto=path)
    texts = ["The river was high", "", "<start_of_image><img><end_of_image> bridge"]
    settings = [
        {},
        {"add_bos": True},
        {"add_eos": True},
        {"add_bos": True, "add_eos": True},
        {"sequence_length": 4},
        {"add_bos": True, "add_eos": True, "sequence_length": 4},
        {"add_bos": True, "add_eos": True, "sequence_length": 12},
    ]

    def plain(value):
        value = value.to_list() if hasattr(value, "to_list") else value
        if hasattr(value, "tolist"):
            return value.tolist()
        return [plain(x) for x in value] if isinstance(value, list) else value

    outputs = [
        [kwargs, plain(keras_hub.models.Gemma3Tokenizer(proto=path, **kwargs)(texts))] for kwargs in settings
    ]
    ids = {
        name: getattr(tokenizer, name)
        for name in (
            "start_token_id",
            "end_token_id",
            "pad_token_id",
            "image_placeholder_id",
            "start_of_image_token_id",
            "end_of_image_token_id",
        )
    }

    def error(call):
        try:
            call()
        except ValueError as raised:
            return str(raised)
        raise AssertionError("KerasHub raised nothing")

    def without(*tokens):
        model = model_pb2.ModelProto()
        with open(path, "rb") as file:
            model.ParseFromString(file.read())
        for piece in model.pieces:
            if piece.piece in tokens:
                piece.piece = piece.piece.replace("<", "<no_")
        return model.SerializeToString()

    # One at a time: of several, KerasHub names an arbitrary one.
    missing = [
        [token, error(lambda: keras_hub.models.Gemma3Tokenizer(proto=without(token)))]
        for token in ("<bos>", "<eos>", "<pad>", "<img>", "<start_of_image>", "<end_of_image>")
    ]
    blind = keras_hub.models.Gemma3Tokenizer(
        proto=without("<img>", "<start_of_image>", "<end_of_image>"), has_vision_tokens=False
    )
    return {
        "texts": texts,
        "outputs": outputs,
        "ids": ids,
        "unknown_token_id": tokenizer.token_to_id("no such token"),
        "tokens": [tokenizer.id_to_token(id) for id in range(8)],
        "vocabulary_size": tokenizer.vocabulary_size(),
        "id_errors": [[id, error(lambda: tokenizer.id_to_token(id))] for id in (-1, tokenizer.vocabulary_size())],
        "missing_token_errors": missing,
        "blind_special_tokens": sorted(blind.special_tokens),
        "special_tokens": sorted(tokenizer.special_tokens),
    }


def write(name, value):
    with open(os.path.join(FOLDER, name), "w", encoding="ascii") as file:
        # One case per line, for readable diffs.
        parts = []
        for key, item in value.items():
            if isinstance(item, list):
                rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in item)
                parts.append(f"{json.dumps(key)}: [\n{rows}\n]")
            else:
                parts.append(f"{json.dumps(key)}: {json.dumps(item, separators=(',', ':'))}")
        file.write("{\n" + ",\n".join(parts) + "\n}\n")


def main():
    os.makedirs(FOLDER, exist_ok=True)
    path = os.path.join(FOLDER, "vocabulary.spm")
    train(path)
    small = spm.SentencePieceProcessor(model_file=path)
    content = describe(small, make_texts(1, 250), make_sequences(2, small, 150), LONG)
    content["variants"] = make_variants()
    content["kerashub"] = ask_kerashub(path)
    write("small.json", content)
    write("types.json", {"models": make_types()})
    if len(sys.argv) > 1:
        real = spm.SentencePieceProcessor(model_file=sys.argv[1])
        write("real_270m.json", describe(real, make_texts(3, 250), make_sequences(4, real, 150), LONG))


if __name__ == "__main__":
    main()
