"""Qt resource files (`.rcc`), read in place by a reader that takes nothing they say on trust.

    header   "qres", version, offsets of tree, data and names      all numbers are big-endian
    tree     nodes: name, flags, then of a folder: number of children, first child
                                      of a file:   locale, offset of its data
    names    length (16 bits), hash (32 bits), UTF-16
    data     length (32 bits), content; if compressed: full length (32 bits), zlib stream

Every read is checked against the end of the file, a node is visited once, and what is taken may
grow to a fixed size only. Zstandard, which Qt can use as well, is refused by name.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from tessera.errors import UserError

MAX_BYTES = 64_000_000  # of all files taken, decompressed
MAX_PATH = 1000  # characters
_MAGIC = b"qres"
_NODE_BYTES = {1: 14, 2: 22, 3: 22}  # by version; from 2 on a node ends in a time
_COMPRESSED, _FOLDER, _ZSTANDARD = 1, 2, 4


def resources(
    content: bytes, *, label: str, suffixes: tuple[str, ...]
) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of the files of a Qt resource file that end so, in its order.

    Raises:
        UserError: the file is damaged, or of a version or compression that is not known;
            `label` says in the message which file that is.
    """
    yield from _Resource.open(content, label).files(suffixes)


@dataclass(frozen=True, kw_only=True)
class _Resource:
    content: bytes
    label: str
    tree: int
    data: int
    names: int
    node_bytes: int

    @classmethod
    def open(cls, content: bytes, label: str) -> "_Resource":
        header = cls(content=content, label=label, tree=0, data=0, names=0, node_bytes=0)
        if content[:4] != _MAGIC:
            raise header.damaged("it does not begin as one")
        version, tree, data, names = (header.number(offset) for offset in (4, 8, 12, 16))
        if version not in _NODE_BYTES:
            known = ", ".join(map(str, _NODE_BYTES))
            raise header.damaged(f"its version is {version}; {known} are known")
        return cls(
            content=content,
            label=label,
            tree=tree,
            data=data,
            names=names,
            node_bytes=_NODE_BYTES[version],
        )

    def files(self, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
        """Walk the tree from its root, without recursion."""
        pending, seen, room = [(0, "")], {0}, MAX_BYTES
        while pending:
            node, path = pending.pop()
            flags = self.number(self.node(node) + 4, size=2)
            if node:
                path = self.join(path, node)
            if flags & _FOLDER:
                children = self.children(node)
                if not seen.isdisjoint(children):
                    raise self.damaged(f"folder {path!r} holds a file or folder a second time")
                seen.update(children)
                pending.extend((child, path) for child in reversed(children))
            elif path.endswith(suffixes):
                content = self.file(node, flags, path, room=room)
                room -= len(content)
                yield path, content

    def children(self, node: int) -> range:
        count, first = (self.number(self.node(node) + offset) for offset in (6, 10))
        if count:
            self.part(self.node(first), count * self.node_bytes)
        return range(first, first + count)

    def join(self, folder: str, node: int) -> str:
        start = self.names + self.number(self.node(node))
        raw = self.part(start + 6, 2 * self.number(start, size=2))
        try:
            name = raw.decode("utf-16-be")
        except UnicodeDecodeError:
            raise self.damaged(f"a name in folder {folder!r} is not UTF-16") from None
        if not name or "/" in name or len(folder) + len(name) >= MAX_PATH:
            raise self.damaged(f"a name in folder {folder[:80]!r} is empty, too long or a path")
        return f"{folder}/{name}"

    def file(self, node: int, flags: int, path: str, *, room: int) -> bytes:
        start = self.data + self.number(self.node(node) + 10)
        stored = self.part(start + 4, self.number(start))
        if flags & _ZSTANDARD:
            raise self.damaged(f"{path} is compressed with Zstandard, which is not read here")
        compressed = flags & _COMPRESSED
        size = int.from_bytes(stored[:4], "big") if compressed else len(stored)
        if size > room:
            raise self.damaged(f"{path} has {size} bytes where at most {room} are left to it")
        if not compressed:
            return stored
        inflater = zlib.decompressobj()
        try:
            inflated = inflater.decompress(stored[4:], size + 1)
        except zlib.error:
            raise self.damaged(f"{path} does not decompress") from None
        if len(inflated) != size or not inflater.eof:
            raise self.damaged(f"{path} does not decompress to the {size} bytes it should be")
        return inflated

    def node(self, index: int) -> int:
        return self.tree + index * self.node_bytes

    def number(self, offset: int, *, size: int = 4) -> int:
        return int.from_bytes(self.part(offset, size), "big")

    def part(self, offset: int, size: int) -> bytes:
        if offset + size > len(self.content):
            raise self.damaged(
                f"bytes {offset} to {offset + size} are asked for, it has {len(self.content)}"
            )
        return self.content[offset : offset + size]

    def damaged(self, what: str) -> UserError:
        return UserError(
            f"{self.label} is no Qt resource file that can be read: {what}; "
            "delete the fetched package and build again"
        )
