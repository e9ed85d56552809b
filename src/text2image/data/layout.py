"""Where digits may lie in an image of MNIST with captions (create-captions.py of the released code)."""


from text2image.config import MAX_SIDE, frozen, parameter
from text2image.errors import UserError


@frozen
class Span:
    """Offsets of a digit's edge in pixels, drawn evenly, both ends included."""

    min: int = parameter(ge=0, le=MAX_SIDE)
    max: int = parameter(ge=0, le=MAX_SIDE)


@frozen
class Layout:
    """The image's side in pixels, and the rows and columns where a digit's upper left corner may lie."""

    size: int = parameter(ge=1, le=MAX_SIDE)
    top: Span
    bottom: Span
    left: Span
    right: Span
    middle: Span

    def check(self, digit: int, where: str) -> None:
        """Raise UserError unless digits of `digit` x `digit` pixels fit everywhere; `where` names the layout in the message."""
        for name in ("top", "bottom", "left", "right", "middle"):
            span = getattr(self, name)
            if not span.min <= span.max <= self.size - digit:
                raise UserError(f"parameter '{where}.{name}' is {span.min} to {span.max}; digits of {digit} pixels in an "
                                f"image of {self.size} may start at 0 to {self.size - digit}, min not above max")
