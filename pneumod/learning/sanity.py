"""Why an answer may be worth little: warnings about one image. Pure: no file is read, nothing is decided."""

from __future__ import annotations

from pneumod.learning.card import ModelCard
from pneumod.parcel import Facts

# 1,220 public chest X-rays have 0.0, the least colourful of the photographs tried 20; a slightly tinted scan passes.
MOST_COLOUR = 8.0  # mean of max(R, G, B) - min(R, G, B), in grey levels
# The same X-rays have 27 to 86.
LEAST_CONTRAST = 10.0  # standard deviation of the grey levels
# Width by height. Detectors of 35 x 43 cm, either way, have 0.8 to 1.2; X-rays of small children, as their hospital cut
# them, 0.9 to 2.4.
ASPECT = (0.6, 2.6)


def warnings(facts: Facts, card: ModelCard, distance: float | None, age_years: float | None) -> list[str]:
    """What speaks against trusting a model's answer about an image; empty where nothing does.

    Args:
        distance: from the training images; None where the model doesn't know them.
        age_years: of the patient, where the file tells. It is not repeated in the text.
    """
    found = []
    if facts.colour > MOST_COLOUR:
        found.append("the image is in colour: not an X-ray as a detector gives it")
    if facts.contrast < LEAST_CONTRAST:
        found.append("the image has hardly any contrast")
    if min(facts.height, facts.width) < card.image_size:
        found.append(f"the image is smaller than the {card.image_size} pixels that the model looks at")
    if not ASPECT[0] <= facts.width / facts.height <= ASPECT[1]:
        found.append(f"{facts.width} x {facts.height} pixels is no usual shape of a chest X-ray")
    likeness = card.likeness
    if likeness is not None and distance is not None and not distance <= likeness.threshold:
        found.append(
            f"the image is unlike those that the model learnt from (as is 1 in {likeness.one_in} ordinary ones)"
        )
    if card.ages_years is not None and age_years is not None:
        youngest, oldest = card.ages_years
        if not youngest <= age_years < oldest + 1:  # somebody of 5 years and 11 months is 5
            found.append(f"the patient's age is not among those of the model's card, {youngest:g} to {oldest:g} years")
    return found
