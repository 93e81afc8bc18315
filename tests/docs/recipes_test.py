"""The recipes for package managers parse, and name the library's version, libraries and options. No package manager is
here to run them: reactor/packaging/README.md."""

import ast
import configparser
import json
import pathlib
import re
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
PACKAGING = TOP / "reactor" / "packaging"
VERSION = re.search(r"version: '([0-9.]+)'", (TOP / "meson.build").read_text(encoding="utf-8"))[1]
CMAKE = (TOP / "CMakeLists.txt").read_text(encoding="utf-8")
OPTIONS = {name.lower() for name in re.findall(r"option\(REACTOR_(\w+)", CMAKE)} - {"install"}
LIBRARIES = set(re.findall(r"^ *reactor_library\((\w+) ", CMAKE, re.MULTILINE))


class Recipes(unittest.TestCase):
    def test_conan_has_the_version_the_options_and_the_libraries(self):
        text = (PACKAGING / "conan" / "conanfile.py").read_text(encoding="utf-8")
        recipe = next(node for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
        values = {node.targets[0].id: node.value for node in recipe.body if isinstance(node, ast.Assign)}
        self.assertEqual(ast.literal_eval(values["version"]), VERSION)
        self.assertEqual(set(ast.literal_eval(values["options"])), OPTIONS | {"shared"})
        self.assertEqual(set(ast.literal_eval(values["default_options"])), OPTIONS | {"shared"})
        for library in LIBRARIES:
            self.assertIn(f'"{library}"', text)

    def test_vcpkg_has_the_version_and_a_feature_for_each_option(self):
        port = json.loads((PACKAGING / "vcpkg" / "vcpkg.json").read_text(encoding="utf-8"))
        self.assertEqual(port["version"], VERSION)
        self.assertEqual(set(port["features"]), OPTIONS)
        text = (PACKAGING / "vcpkg" / "portfile.cmake").read_text(encoding="utf-8")
        for option in OPTIONS:
            self.assertIn(f"{option} REACTOR_{option.upper()}", text)

    def test_the_wrap_has_the_version_and_provides_every_library(self):
        wrap = configparser.ConfigParser()
        wrap.read(PACKAGING / "reactor.wrap", encoding="utf-8")
        self.assertEqual(wrap["wrap-git"]["revision"], "v" + VERSION)
        provided = set(re.split(r",\s*", wrap["provide"]["dependency_names"]))
        self.assertEqual(provided, {"reactor" if one == "reactor" else "reactor-" + one for one in LIBRARIES})

    def test_each_says_that_it_has_not_been_run(self):
        for name in ("README.md", "conan/conanfile.py", "vcpkg/portfile.cmake", "reactor.wrap"):
            self.assertRegex((PACKAGING / name).read_text(encoding="utf-8"), r"(?i)written and not run")


if __name__ == "__main__":
    unittest.main(verbosity=2)
