"""Files that are nearly right: a whole one, altered in a few places, always the same for one random generator."""

import random

NUMBERS = [0, 1, 2, 7, 8, 9, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
           1 << 40, (1 << 62) - 1, 1 << 63, (1 << 64) - 1]


def mutate(draw: random.Random, whole: bytes, other: bytes, tokens: list[bytes]) -> bytes:
    """`whole` altered in one to six places; `other` is a file of the same kind, `tokens` are what such files are made of."""
    content = bytearray(whole)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        at = draw.randrange(len(content) + 1)
        if draw.random() < 0.5:  # heads and tails say what the rest is
            at = min(at, draw.choice((8, 64, 512))) if draw.random() < 0.7 else max(0, len(content) - draw.randrange(1, 100))
        draw.choice((_bit, _byte, _number, _text, _cut, _drop, _repeat, _insert, _splice, _token, _token))(
            draw, content, at, other, tokens)
    return bytes(content)


def _bit(draw: random.Random, content: bytearray, at: int, *_: object) -> None:
    if at < len(content):
        content[at] ^= 1 << draw.randrange(8)


def _byte(draw: random.Random, content: bytearray, at: int, *_: object) -> None:
    content[at:at + 1] = bytes([draw.randrange(256)])


def _number(draw: random.Random, content: bytearray, at: int, *_: object) -> None:
    """A number that lies at an edge, over what is there."""
    size = draw.choice((1, 2, 4, 8))
    number = draw.choice(NUMBERS) % (1 << 8 * size)
    content[at:at + size] = number.to_bytes(size, draw.choice(("little", "big")))


def _text(draw: random.Random, content: bytearray, at: int, *_: object) -> None:
    """A number in figures, where figures are."""
    end = at
    while end < len(content) and chr(content[end]).isdigit():
        end += 1
    content[at:end] = str(draw.choice([*NUMBERS, -1, 10**30, 10**400, 1e308, 0.5])).encode()


def _cut(draw: random.Random, content: bytearray, at: int, *_: object) -> None:
    del content[at:]


def _drop(draw: random.Random, content: bytearray, at: int, *_: object) -> None:
    del content[at:at + draw.choice((1, 2, 4, 8, 16, 100))]


def _repeat(draw: random.Random, content: bytearray, at: int, *_: object) -> None:
    part = content[at:at + draw.choice((1, 2, 4, 16, 100))]
    content[at:at] = part * draw.choice((1, 2, 30, 2000))


def _insert(draw: random.Random, content: bytearray, at: int, *_: object) -> None:
    content[at:at] = draw.choice((bytes(8), b"\xff" * 8, draw.randbytes(5), bytes(5000)))


def _splice(draw: random.Random, content: bytearray, at: int, other: bytes, _: object) -> None:
    size, start = draw.randrange(1, 64), draw.randrange(len(other) + 1)
    content[at:at + draw.choice((0, size))] = other[start:start + size]


def _token(draw: random.Random, content: bytearray, at: int, other: bytes, tokens: list[bytes]) -> None:
    if not tokens:
        return
    token = draw.choice(tokens)
    old = draw.choice(tokens)
    place = content.find(old, at)
    if place >= 0 and draw.random() < 0.5:
        content[place:place + len(old)] = token
    else:
        content[at:at] = token * draw.choice((1, 1, 1, 3, 300))
