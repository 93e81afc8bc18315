"""Every type that a user of the installed headers may name has a comment for the reference: `///` right before it.

It reads lines and not C++: the formatter has put each type, each access and each closing brace on a line of its own,
with four columns for each class around it."""

import pathlib
import re
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
TYPE = re.compile(r"( *)(?:class|struct|union|enum(?: class)?) ([^:{;]*)[^;]*(?:\{.*)?$")
ACCESS = re.compile(r"( *)(public|protected|private):")
CLOSING = re.compile(r"( *)\};?")


def headers():
    """The public headers: those that the build files install, without what stands apart for the implementation."""
    for folder in ("reactor", "protocols"):
        for path in sorted((TOP / folder).rglob("*.hpp")):
            if not {"detail", "programs"} & set(path.parts) and not path.name.endswith("_impl.hpp"):
                yield path


def types(text):
    """The types that a header shows: (name, line, has a comment)."""
    around = []  # whether each class around the line shows what comes next
    hidden = False  # in a namespace whose name says that it is none of the user's business
    lines = re.sub(r"(?:\[\[.*?\]\]|\bREACTOR_EXPORT\b) ?", "", text).splitlines()  # as if without attributes
    for at, line in enumerate(lines):
        if re.match(r"(}  // )?namespace \w*detail\b", line):
            hidden = not line.startswith("}")
        elif (access := ACCESS.fullmatch(line)) and len(access[1]) == 4 * (len(around) - 1):
            around[-1] = access[2] == "public"
        elif (found := TYPE.match(line)) and len(found[1]) == 4 * len(around):
            before = at - 1
            while re.match(r" *(template|requires)\b", lines[before]):
                before -= 1
            # A<T>::B is declared, and commented, in A.
            name, elsewhere = re.match(r"(\w*)(?:<\w+>)?(::)?", line[found.start(2):]).groups()
            if all(around) and not hidden and name and not elsewhere:
                yield name, at + 1, bool(re.match(r" */// ", lines[before]))
            if not re.search(r"\};?$", line):
                around.append(not line.lstrip().startswith("class "))
        elif around and (end := CLOSING.match(line)) and len(end[1]) == 4 * (len(around) - 1):
            around.pop()


class ClassComments(unittest.TestCase):
    def test_every_public_type_has_a_comment(self):
        seen = set()
        for path in headers():
            for name, line, has_comment in types(path.read_text(encoding="utf-8")):
                seen.add(name)
                with self.subTest(header=str(path.relative_to(TOP)), type=name):
                    self.assertTrue(has_comment, f"{path.relative_to(TOP)}:{line}: no comment `///` before {name}")
        # It has looked where types are: in namespaces, in classes, behind attributes and lists of template parameters.
        self.assertLessEqual({"Reactor", "Interest", "Requests", "Timer", "Limits", "Sent", "Stream"}, seen)
        self.assertTrue(seen.isdisjoint({"Pool", "FramedProtocol", "Link"}))

    def test_a_type_without_a_comment_is_found(self):
        found = types("namespace a {\n\n/// One.\nclass A final : B {\npublic:\n    struct C {};\n    /// One.\n"
                      "    enum class D { one };\n\nprivate:\n    struct E {\n        int f;\n    };\n};\n\nclass G;\n/// Apart.\n\n"
                      "template <class T>\nrequires x<T>\nclass [[nodiscard]] H {\n};\n\nnamespace b_detail {\nstruct I {};\n"
                      "}  // namespace b_detail\nstruct A::J {};\n}  // namespace a\n")
        self.assertEqual([(name, has) for name, _, has in found],
                         [("A", True), ("C", False), ("D", True), ("H", False)])


if __name__ == "__main__":
    unittest.main()
