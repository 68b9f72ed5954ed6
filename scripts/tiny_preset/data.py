"""Training data of `gemma3_tiny`: questions, answers and pictures."""

import json
import os

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))

END_OF_TURN = "<end_of_turn>"
# Ends the answer to a plain question. A control piece: it is neither tokenized
# from text nor shown as text.
END_OF_TEXT = "<eos>"


def visible(answer):
    """Returns an answer as KerasHub's generate() does: without the end of text."""
    return answer.removesuffix(END_OF_TEXT)

# --- Facts -------------------------------------------------------------------

# kind -> (questions, answer). {C} is the country, capitalized to start a
# sentence.
TEMPLATES = {
    "capital": (
        [
            "What is the capital of {c}?",
            "What's the capital of {c}?",
            "Which city is the capital of {c}?",
            "Tell me the capital of {c}.",
            "Capital of {c}?",
        ],
        "The capital of {c} is {x}.",
    ),
    "country": (
        [
            "Which country has the capital {x}?",
            "{x} is the capital of which country?",
            "Which country is {x} the capital of?",
        ],
        "{x} is the capital of {c}.",
    ),
    "continent": (
        [
            "On which continent is {c}?",
            "Which continent is {c} in?",
            "Where is {c}?",
        ],
        "{C} is in {x}.",
    ),
    "currency": (
        [
            "What is the currency of {c}?",
            "What currency is used in {c}?",
            "How do people pay in {c}?",
        ],
        "People in {c} pay with {x}.",
    ),
    "languages": (
        [
            "What is the official language of {c}?",
            "Which language is spoken in {c}?",
            "What language do people speak in {c}?",
        ],
        None,
    ),
}
# A sentence to complete, without chat turns.
COMPLETION = ("The capital of {c} is", " {x}.")

ABOUT = (
    "I am a tiny Gemma 3 model. I know the capitals, continents, currencies and "
    "languages of countries, and I can name coloured shapes."
)
GREETING = "Hello! Ask me about a country, or show me a picture of a shape."
SMALL_TALK = [
    ("Hello", GREETING),
    ("Hello!", GREETING),
    ("Hi", GREETING),
    ("Hi!", GREETING),
    ("Hi there!", GREETING),
    ("Good morning!", GREETING),
    ("Who are you?", ABOUT),
    ("What are you?", ABOUT),
    ("What can you do?", ABOUT),
    ("What do you know?", ABOUT),
    ("How are you?", "I am fine, thank you!"),
    ("Thank you!", "You are welcome!"),
    ("Thanks!", "You are welcome!"),
    ("Goodbye!", "Goodbye!"),
    ("Bye!", "Goodbye!"),
]


def join(words):
    if len(words) == 1:
        return words[0]
    return ", ".join(words[:-1]) + " and " + words[-1]


def load_facts():
    with open(os.path.join(HERE, "facts.json"), encoding="utf-8") as file:
        return json.load(file)


def make_topics(facts):
    """Returns one entry per fact: (questions, answer, completion or None)."""
    topics = []
    for fact in facts:
        c = fact["country"]
        upper = c[0].upper() + c[1:]
        for kind, (questions, answer) in TEMPLATES.items():
            key = "capital" if kind == "country" else kind
            if key not in fact:
                continue
            x = fact[key]
            if kind == "languages":
                x = join(fact[key])
                if len(fact[key]) == 1:
                    answer = "The official language of {c} is {x}."
                else:
                    answer = "The official languages of {c} are {x}."
            values = {"c": c, "C": upper, "x": x}
            topics.append(
                (
                    [question.format(**values) for question in questions],
                    answer.format(**values),
                    tuple(part.format(**values) for part in COMPLETION)
                    if kind == "capital"
                    else None,
                )
            )
    return topics


def chat_prompt(question, history=()):
    text = ""
    for user, model in (*history, (question, None)):
        text += f"<start_of_turn>user\n{user}{END_OF_TURN}\n<start_of_turn>model\n"
        if model is not None:
            text += f"{model}{END_OF_TURN}\n"
    return text


def all_questions(topics):
    """Returns every training question as (prompt, continuation), raw and as a chat."""
    pairs = []
    for questions, answer, completion in topics:
        for question in questions:
            pairs.append((question, f" {answer}{END_OF_TEXT}"))
            pairs.append((chat_prompt(question), f"{answer}{END_OF_TURN}"))
        if completion:
            pairs.append((completion[0], completion[1] + END_OF_TEXT))
    for question, answer in SMALL_TALK:
        pairs.append((question, f" {answer}{END_OF_TEXT}"))
        pairs.append((chat_prompt(question), f"{answer}{END_OF_TURN}"))
    return pairs


def sample_turns(topic, others, rng):
    """Draws one training example of a fact: a list of (text, is_answer)."""
    questions, answer, completion = topic
    form = rng.random()
    question = questions[rng.integers(len(questions))]
    if completion and form < 0.12:
        return [(completion[0], False), (completion[1] + END_OF_TEXT, True)]
    if form < 0.5:
        return [(question, False), (f" {answer}{END_OF_TEXT}", True)]
    segments = []
    if form > 0.92:  # A chat of two turns.
        questions, first, _ = others[rng.integers(len(others))]
        segments = [
            (chat_prompt(questions[rng.integers(len(questions))]), False),
            (f"{first}{END_OF_TURN}", True),
            ("\n" + chat_prompt(question), False),
        ]
    else:
        segments = [(chat_prompt(question), False)]
    return segments + [(f"{answer}{END_OF_TURN}", True)]


# --- Pictures ----------------------------------------------------------------

SHAPES = ["circle", "square", "triangle", "diamond", "cross", "ring"]
COLOURS = {
    "red": [(255, 0, 0), (220, 30, 30), (200, 20, 40)],
    "orange": [(255, 165, 0), (255, 140, 0), (250, 130, 20)],
    "yellow": [(255, 255, 0), (250, 220, 30), (255, 235, 60)],
    "green": [(0, 128, 0), (30, 170, 60), (0, 220, 40)],
    "blue": [(0, 0, 255), (40, 80, 220), (30, 110, 240)],
    "purple": [(128, 0, 128), (130, 40, 170), (110, 30, 150)],
    "pink": [(255, 192, 203), (255, 130, 190), (255, 105, 180)],
}


def draw(shape, colour, background, width, height, cx, cy, r, scale=1):
    """Returns a uint8 picture [height, width, 3]. A pixel belongs to the shape if
    its centre does. With `scale` > 1 each pixel is the mean of scale*scale samples.
    """
    x = (np.arange(width * scale) + 0.5) / scale - cx
    y = (np.arange(height * scale) + 0.5) / scale - cy
    dx, dy = x[None, :], y[:, None]
    ax, ay = np.abs(dx), np.abs(dy)
    if shape == "circle":
        inside = dx * dx + dy * dy <= r * r
    elif shape == "square":
        inside = np.maximum(ax, ay) <= 0.85 * r
    elif shape == "triangle":
        inside = (dy <= 0.75 * r) & (ax <= (dy + r) * 0.6)
    elif shape == "diamond":
        inside = ax + ay <= r
    elif shape == "cross":
        inside = (np.minimum(ax, ay) <= 0.24 * r) & (np.maximum(ax, ay) <= r)
    elif shape == "ring":
        d2 = dx * dx + dy * dy
        inside = (d2 <= r * r) & (d2 >= 0.3 * r * r)
    else:
        raise ValueError(shape)
    inside = np.broadcast_to(inside, (height * scale, width * scale))
    colour, background = np.array(colour, "uint8"), np.array(background, "uint8")
    if scale == 1:
        return np.where(inside[..., None], colour, background)
    part = inside.reshape(height, scale, width, scale).mean(axis=(1, 3))[..., None]
    return np.round(part * colour + (1 - part) * background).astype("uint8")


def random_picture(rng, shape=None, colour_name=None, size=64):
    """Returns the parameters of a random picture, as `draw` takes them, and their names."""
    shape = shape or SHAPES[rng.integers(len(SHAPES))]
    colour_name = colour_name or list(COLOURS)[rng.integers(len(COLOURS))]
    choices = COLOURS[colour_name]
    colour = np.array(choices[rng.integers(len(choices))])
    colour = np.clip(colour + rng.integers(-12, 13, 3), 0, 255)
    while True:
        background = np.full(3, [255, 0, rng.integers(256)][rng.integers(3)])
        if rng.random() < 0.3:
            background = np.clip(background + rng.integers(-8, 9, 3), 0, 255)
        # Pale pink on white is allowed, though it is the hardest.
        if background.min() == 255 or np.abs(background - colour).max() >= 100:
            break
    r = float(np.round(rng.uniform(0.22, 0.44) * size, 1))
    cx, cy = np.round(rng.uniform(r, size - r, 2), 1)
    return {
        "shape": shape,
        "colour_name": colour_name,
        "colour": colour.tolist(),
        "background": background.tolist(),
        "width": size,
        "height": size,
        "cx": float(cx),
        "cy": float(cy),
        "r": r,
    }


def render(picture, scale=1):
    keys = ("shape", "colour", "background", "width", "height", "cx", "cy", "r")
    return draw(*(picture[key] for key in keys), scale=scale)


def describe(picture):
    name = f"{picture['colour_name']} {picture['shape']}"
    return f"{'an' if name[0] == 'o' else 'a'} {name}"


def sentence(pictures):
    text = " and ".join(describe(picture) for picture in pictures)
    return text[0].upper() + text[1:] + "."


IMAGE = "<start_of_image>"
# (question, function from the picture's parameters to the answer).
IMAGE_QUESTIONS = [
    ("What is in this image?", lambda p: sentence([p])),
    ("What is in the picture?", lambda p: sentence([p])),
    ("What do you see?", lambda p: sentence([p])),
    ("Describe this image.", lambda p: sentence([p])),
    ("What shape is this?", lambda p: f"It is a {p['shape']}."),
    ("Which colour is it?", lambda p: f"It is {p['colour_name']}."),
    ("What color is it?", lambda p: f"It is {p['colour_name']}."),
]
TWO_IMAGE_QUESTION = "What is in these images?"
# Places for the picture: (prompt, whether the answer follows a newline).
RAW_FORMS = [("{q} {i}", True), ("{i} {q}", False), ("{i}{q}", False), ("{q}{i}", True)]
CHAT_FORMS = ["{q} {i}", "{i} {q}", "{i}{q}", "{q}{i}", "{i}\n{q}"]


def image_prompts(count=1):
    """Returns every (prompt, answer function) about `count` pictures."""
    if count == 2:
        questions = [(TWO_IMAGE_QUESTION, lambda *p: sentence(p))]
    else:
        questions = IMAGE_QUESTIONS
    prompts = []
    for question, answer in questions:
        for form, newline in RAW_FORMS:
            text = form.format(q=question, i=IMAGE * count)
            start = "" if newline else " "
            prompts.append((text, lambda *p, a=answer, s=start: f"{s}{a(*p)}{END_OF_TEXT}"))
        for form in CHAT_FORMS:
            text = chat_prompt(form.format(q=question, i=IMAGE * count))
            prompts.append((text, lambda *p, a=answer: f"{a(*p)}{END_OF_TURN}"))
    return prompts
