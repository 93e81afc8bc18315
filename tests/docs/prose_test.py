"""The documents and comments are plain English: the words that marked our old dialect are rare in them."""

import pathlib
import re
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("reactor", "protocols", "bench", "tests", "findings")
# At most so many in a thousand words.
RARE = {
    "who, for a thing": (r"\bwho(?:ever)?\b", 0.3),
    "a clause with what as a noun": (r"(?:^|[.;:]\s+|\b(?:of|to|for|in|with|by|and)\s)what\s+\w+", 0.3),
    "told, tells": (r"\b(?:told|tells?)\b", 0.2),
    "nobody, somebody": (r"\b(?:nobody|somebody)\b", 0.2),
}


def prose(path):
    """The text of a page without its code, or of a source file's comments."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return "\n".join(re.findall(r"//[/!<]*\s*(.*)", text))


class Prose(unittest.TestCase):
    def test_documents_and_comments_are_plain_english(self):
        files = [path for folder in FOLDERS for path in (TOP / folder).rglob("*")
                 if path.suffix in (".md", ".cpp", ".hpp") and "build-" not in str(path.relative_to(TOP))]
        files += TOP.glob("*.md")
        text = "\n".join(prose(path) for path in files)
        words = len(re.findall(r"[A-Za-z']+", text))
        self.assertGreater(words, 20000)
        for name, (pattern, most) in RARE.items():
            with self.subTest(name):
                found = len(re.findall(pattern, text, re.IGNORECASE | re.MULTILINE))
                self.assertLessEqual(1000 * found / words, most, f"{found} in {words} words")


if __name__ == "__main__":
    unittest.main()
