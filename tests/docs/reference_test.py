"""The reference builds from the headers and pages without a warning, and its pictures are there."""

import pathlib
import re
import subprocess
import sys
import unittest

DOXYGEN, DOXYFILE = sys.argv[1:3]


class Reference(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        result = subprocess.run([DOXYGEN, DOXYFILE], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240)
        cls.output, cls.status = result.stdout, result.returncode
        folder = re.search(r'^OUTPUT_DIRECTORY = "(.*)"$', pathlib.Path(DOXYFILE).read_text(encoding="utf-8"), re.MULTILINE)[1]
        cls.pages = pathlib.Path(folder, "html")

    def test_it_builds_without_a_warning(self):
        self.assertEqual((self.status, self.output), (0, ""))

    def test_every_picture_of_a_page_is_there(self):
        images = 0
        for page in self.pages.glob("*.html"):
            for source in re.findall(r'<(?:img|object)[^>]* (?:src|data)="([^":]+)"', page.read_text(encoding="utf-8")):
                images += 1
                self.assertTrue((self.pages / source).exists(), f"{page.name}: {source}")
        self.assertGreater(images, 0)

    def test_every_link_leads_to_a_page(self):
        links = 0
        for page in self.pages.glob("*.html"):
            for target in re.findall(r'href="([^"#:]+)(?:#[^"]*)?"', page.read_text(encoding="utf-8")):
                links += 1
                self.assertTrue((self.pages / target).exists(), f"{page.name}: {target}")
        self.assertGreater(links, 1000)

    def test_every_public_class_has_a_page(self):
        for name in ("Reactor", "Acceptor", "Connection", "Protocol", "Transport"):
            self.assertTrue((self.pages / f"classreactor_1_1{name}.html").exists(), name)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
