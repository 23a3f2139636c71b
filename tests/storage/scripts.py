"""What a log goes through, by a seed: batches as Raft writes them, and the rows after each."""

from __future__ import annotations

from random import Random

from chainfire.storage.backend import Backend, Reader

FAMILIES = ("entries", "facts", "more")

Rows = dict[str, dict[bytes, bytes]]
Op = tuple[str, str, bytes, bytes]  # what, family, key or lower, value or upper


def rows_of(reader: Reader) -> Rows:
    return {family: dict(reader.iterate(family)) for family in FAMILIES}


class Script:
    """Batch after batch, and `rows[n]`: what is there after the first n of them."""

    def __init__(self, seed: int, count: int, *, value_bytes_max: int = 400) -> None:
        self.batches: list[list[Op]] = []
        self.rows: list[Rows] = [{family: {} for family in FAMILIES}]
        random = Random(seed)
        first, last = 1, 0  # entries
        for number in range(count):
            batch: list[Op] = []
            for _ in range(random.choice((1, 1, 2, 4))):
                what = random.random()
                value = b"%d " % number + bytes(random.randrange(value_bytes_max))
                if what < 0.6:
                    last += 1
                    batch.append(("put", "entries", _key(last), value))
                elif what < 0.7 and first < last:
                    upper = random.randint(first, last)
                    batch.append(("delete_range", "entries", _key(first), _key(upper)))
                    first = upper
                elif what < 0.75 and first <= last:  # another leader's entries take their place
                    lower = random.randint(first, last)
                    batch.append(("delete_range", "entries", _key(lower), _key(last + 1)))
                    last = lower - 1
                elif what < 0.8 and first <= last:
                    batch.append(("delete", "entries", _key(last), b""))
                    last -= 1
                elif what < 0.85:
                    batch.append(("delete", "more", b"%d" % random.randrange(4), b""))
                else:
                    family = random.choice(("facts", "more"))
                    batch.append(("put", family, b"%d" % random.randrange(4), value[:40]))
            self.batches.append(batch)
            self.rows.append(_after(self.rows[-1], batch))

    def write(self, backend: Backend, number: int) -> None:
        """The batch that makes `rows[number + 1]` of `rows[number]`."""
        batch = backend.batch()
        for what, family, key, value in self.batches[number]:
            if what == "put":
                batch.put(family, key, value)
            elif what == "delete":
                batch.delete(family, key)
            else:
                batch.delete_range(family, key, value)
        backend.write(batch)


def _key(index: int) -> bytes:
    return index.to_bytes(8)


def _after(before: Rows, batch: list[Op]) -> Rows:
    rows = {family: dict(each) for family, each in before.items()}
    for what, family, key, value in batch:
        each = rows[family]
        if what == "put":
            each[key] = value
        elif what == "delete":
            each.pop(key, None)
        else:
            for gone in [row for row in each if key <= row < value]:
                del each[gone]
    return rows
