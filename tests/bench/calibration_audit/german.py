"""German sentences, made of parts that anybody may use: another language, for a tokenizer that knows English."""

import numpy as np

WHO = (
    "Der alte Lehrer", "Die Nachbarin", "Unser Hausmeister", "Das kleine Kind", "Ein junger Arzt", "Die Gärtnerin",
    "Mein Bruder", "Der Bürgermeister", "Eine Reisende", "Der Bäcker", "Die Schülerin", "Niemand",
)  # fmt: skip
DOES = (
    "öffnet am Morgen das Fenster", "sucht seit gestern den Schlüssel", "liest abends die Zeitung",
    "wartet auf den nächsten Zug", "erzählt eine lange Geschichte", "kauft frisches Brot", "repariert das Fahrrad",
    "schreibt einen Brief an die Behörde", "kocht Suppe für die Gäste", "zählt die Bücher im Regal",
)  # fmt: skip
AND = (
    "", ", weil es draußen regnet", ", obwohl niemand zuhört", ", bevor die Gäste kommen", " und geht dann nach Hause",
    ", während die Kinder schlafen", ", damit alles fertig wird", " und denkt an den Sommer",
)  # fmt: skip


def sentences(count: int, random: np.random.Generator) -> list[str]:
    """So many of the 960 there are, in random order; no sentence twice."""
    every = [f"{who} {does}{and_}." for who in WHO for does in DOES for and_ in AND]
    return [every[at] for at in random.permutation(len(every))[:count]]
