"A stand-in for a trained network with the fields of serve.predict: the colour of a picture's first pixel says what it answers."
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from fakeface.data.images import RejectedImage, open_header, to_rgb
from fakeface.serve.app import Looker

COLOURS = dict(fake=(200, 0, 0), real=(0, 0, 200), unsure=(200, 200, 0), none=(0, 0, 0), nobody=(0, 200, 0))


@dataclass
class FaceAnswer:
    box: tuple[float, float, float, float]
    p_fake: float | None
    p: float | None
    verdict: str
    reasons: list[str]
    ood: dict | None = None
    band: tuple[float, float] | None = None
    flips: int = 0


@dataclass
class Answer:
    name: str
    refused: str | None
    kind: str
    answers: list[FaceAnswer]
    marks: list[dict]
    verdict: str
    network: dict = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


ANSWERS = {
    "fake": dict(p_fake=0.9871, p=0.97, verdict="fake", reasons=[], band=(0.94, 0.99)),
    "real": dict(p_fake=0.0312, p=0.05, verdict="real", reasons=[], band=(0.02, 0.08)),
    "unsure": dict(p_fake=0.61, p=0.58, verdict="unsure", reasons=["Saving it again changes its verdict."], band=(0.31, 0.8), flips=4),
    "none": dict(p_fake=None, p=None, verdict="no verdict", reasons=["It is unlike anything that the network was trained on."])}


class Detector:
    "Answers by colour."
    def __init__(self, seconds: float = 0.0, heat: bool = False):
        self.seconds, self.heat = seconds, heat
        sources = ("drawn_real", "drawn_fake")
        self.network = dict(name="stand-in", drawn=True, trained_on=[dict(source=s, images=1200) for s in sources], threshold=0.5123,
                            temperature=1.31, aim="1 % of real images called fake",
                            scores=[dict(source=s, images=300, correct=0.98) for s in sources],
                            known_failures=["Faces smaller than 48 pixels.", "Faces that were saved as JPEG below quality 50."],
                            citations=["A dataset, https://example.org/" + 12 * "a-long-address-" + "."])

    def predict(self, data: bytes) -> Answer:
        time.sleep(self.seconds)
        try:
            image = to_rgb(open_header(data))
        except RejectedImage as e:
            return Answer("", e.words, "no face", [], [], "no verdict")
        first = image.getpixel((0, 0))
        said = min(COLOURS, key=lambda k: np.abs(np.subtract(COLOURS[k], first)).sum())
        two = image.width >= 1.5 * image.height
        boxes = [(0.06, 0.12, 0.44, 0.9), (0.55, 0.12, 0.94, 0.9)] if two else [(0.18, 0.12, 0.82, 0.9)]
        faces = [] if said == "nobody" else [FaceAnswer(box, **ANSWERS[said]) for box in boxes]
        kind = "no face" if not faces else "one face" if len(faces) == 1 else "several faces"
        mark = dict(kind="xmp", where="JPEG APP1", text="DigitalSourceType trainedAlgorithmicMedia", says="generated")
        marks = [mark] if b"trainedAlgorithmicMedia" in data else []
        return Answer("", None, kind, faces, marks, faces[0].verdict if faces else "no verdict")

    def ppv(self, prevalence: float) -> dict[str, Any]:
        from fakeface.evaluate.thresholds import ppv
        found, other = ppv((290, 300), (3, 300), prevalence), (1 - prevalence) * 297 / 300
        npv = other / (other + prevalence * 10 / 300)
        low, high = found["ci95"]
        text = f"Of pictures with the verdict fake, {found['ppv']:.0%} are fake [{low:.0%}, {high:.0%}]."
        return dict(ppv=found["ppv"], npv=npv, ci95=found["ci95"], text=text)

    def heat_map(self, image: Image.Image, face: FaceAnswer) -> Image.Image | None:
        return image.convert("L") if self.heat and face.p is not None else None


def load() -> Looker:
    return Looker(Detector())


def load_with_maps() -> Looker:
    return Looker(Detector(heat=True))


def load_slow() -> Looker:
    return Looker(Detector(seconds=0.5))


def main(load: Any = load, **limits: Any) -> None:
    "Serves the app with the stand-in on a free port."
    from fakeface.serve.app import add_detector
    from fakeface.serve.queue import Worker
    from fakeface.serve.web import Limits, make_app, serve
    app = make_app("fakeface", limits=Limits(**limits))
    add_detector(app, Worker(load, app.state.site.limits).start())
    serve(app, port=0)
