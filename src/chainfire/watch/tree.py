"""Which of many ranges contain a key: a balanced tree (AVL) over ranges, each node knowing the
greatest upper bound below it, so that whole subtrees that end before the key are left out.

Asking costs O(log n) and what is found; so do adding and removing. Depth is bounded whatever
ranges clients choose: nothing here is random, and recursion stays shallow.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Generic, TypeVar

T = TypeVar("T")


class _Node(Generic[T]):
    """One range. `items` have joined it, in no particular order: mostly one, which a tuple holds
    in less memory.
    """

    __slots__ = ("furthest", "height", "items", "left", "lower", "right", "upper")

    def __init__(self, lower: bytes, upper: bytes, item: T) -> None:
        self.lower = lower
        self.upper = upper
        self.items: tuple[T] | dict[T, None] = (item,)
        self.left: _Node[T] | None = None
        self.right: _Node[T] | None = None
        self.height = 1
        self.furthest = upper  # invariant: the greatest `upper` of this subtree


class RangeTree(Generic[T]):
    """A multiset of (lower, upper, item) with lower <= key < upper."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root: _Node[T] | None = None

    def __bool__(self) -> bool:
        return self._root is not None

    def add(self, lower: bytes, upper: bytes, item: T) -> None:
        assert lower < upper, (lower, upper)
        self._root = _add(self._root, lower, upper, item)

    def remove(self, lower: bytes, upper: bytes, item: T) -> None:
        """The item must be there."""
        self._root = _remove(self._root, lower, upper, item)

    def at(self, lower: bytes, upper: bytes) -> Collection[T]:
        """The items of exactly this range; look, and change nothing meanwhile."""
        node, bounds = self._root, (lower, upper)
        while node is not None:
            mine = (node.lower, node.upper)
            if mine == bounds:
                return node.items
            node = node.left if bounds < mine else node.right
        return ()

    def containing(self, key: bytes) -> list[T]:
        """The items of all ranges that the key is in."""
        found: list[T] = []
        waiting = [self._root]
        while waiting:
            node = waiting.pop()
            while node is not None and node.furthest > key:
                if node.lower <= key:
                    if key < node.upper:
                        found += node.items
                    waiting.append(node.right)
                node = node.left
        return found

    def any(self) -> T | None:
        """Some item; None: there is none."""
        return next(reversed(self._root.items)) if self._root is not None else None


def _add(node: _Node[T] | None, lower: bytes, upper: bytes, item: T) -> _Node[T]:
    if node is None:
        return _Node(lower, upper, item)
    bounds, mine = (lower, upper), (node.lower, node.upper)
    if bounds == mine:
        items = node.items
        if isinstance(items, dict):
            items[item] = None
        else:
            node.items = {items[0]: None, item: None}
        return node
    if bounds < mine:
        node.left = _add(node.left, lower, upper, item)
    else:
        node.right = _add(node.right, lower, upper, item)
    return _balanced(node)


def _remove(node: _Node[T] | None, lower: bytes, upper: bytes, item: T) -> _Node[T] | None:
    assert node is not None, (lower, upper)
    bounds, mine = (lower, upper), (node.lower, node.upper)
    if bounds < mine:
        node.left = _remove(node.left, lower, upper, item)
    elif bounds > mine:
        node.right = _remove(node.right, lower, upper, item)
    else:
        items = node.items
        if isinstance(items, dict):
            del items[item]
            if len(items) == 1:
                node.items = (next(iter(items)),)
            return node
        assert items[0] is item, (lower, upper)
        if node.left is None or node.right is None:
            return node.left or node.right
        first = node.right
        while first.left is not None:
            first = first.left
        node.lower, node.upper, node.items = first.lower, first.upper, first.items
        node.right = _without_first(node.right)
    return _balanced(node)


def _without_first(node: _Node[T]) -> _Node[T] | None:
    if node.left is None:
        return node.right
    node.left = _without_first(node.left)
    return _balanced(node)


def _height(node: _Node[T] | None) -> int:
    return node.height if node is not None else 0


def _renew(node: _Node[T]) -> None:
    left, right = node.left, node.right
    node.height = 1 + max(_height(left), _height(right))
    furthest = node.upper
    if left is not None and left.furthest > furthest:
        furthest = left.furthest
    if right is not None and right.furthest > furthest:
        furthest = right.furthest
    node.furthest = furthest


def _balanced(node: _Node[T]) -> _Node[T]:
    """The subtree's new root, its two sides differing by one at most."""
    lean = _height(node.left) - _height(node.right)
    if lean > 1:
        assert node.left is not None
        if _height(node.left.left) < _height(node.left.right):
            node.left = _rotated_left(node.left)
        return _rotated_right(node)
    if lean < -1:
        assert node.right is not None
        if _height(node.right.right) < _height(node.right.left):
            node.right = _rotated_right(node.right)
        return _rotated_left(node)
    _renew(node)
    return node


def _rotated_right(node: _Node[T]) -> _Node[T]:
    top = node.left
    assert top is not None
    node.left, top.right = top.right, node
    _renew(node)
    _renew(top)
    return top


def _rotated_left(node: _Node[T]) -> _Node[T]:
    top = node.right
    assert top is not None
    node.right, top.left = top.left, node
    _renew(node)
    _renew(top)
    return top
