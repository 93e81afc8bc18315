"""Options cost every reader of a header: all of them together have at most 45 fields. A new one takes the place of an old
one, or is a constant, or is derived from another. Parts that a program may do without, as TLS and HTTP are, have budgets
of their own."""

import pathlib
import re
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
BUDGETS = {"protocols/http": 23, "protocols/websocket": 8, "reactor/tls": 18, "": 45}  # by folder; the longest name that a header's path begins with counts
STRUCT = re.compile(r"^[ \t]*struct\s+(?:REACTOR_EXPORT\s+)?(\w*(?:Options|Limits|Policy|Settings)|Rate)\s*(?::[^{;]*)?\{",
                    re.MULTILINE)
NOT_DATA = re.compile(r"^(using|static|friend|enum|struct|class|template)\b")


def without_comments(text):
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def statements_of(text, start):
    """The statements between the brace that ends before `start` and its closing one, without what lies in braces."""
    depth, result = 1, ""
    for character in text[start:]:
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                break
            result += ";" if depth == 1 else ""  # behind a function's body there is none
        elif depth == 1:
            result += character
    return [" ".join(statement.split()) for statement in result.split(";")]


def fields_of(text):
    """Name and fields of each struct of options in a header."""
    text = without_comments(text)
    for found in STRUCT.finditer(text):
        fields = []
        for statement in statements_of(text, found.end()):
            declaration = statement.partition("=")[0].strip()
            while "<" in declaration and ">" in declaration:
                shorter = re.sub(r"<[^<>]*>", "", declaration)
                if shorter == declaration:
                    break
                declaration = shorter
            if " " in declaration and "(" not in declaration and not NOT_DATA.match(declaration):
                fields.append(declaration.split()[-1].lstrip("*&"))
        yield found[1], fields


def public_headers():
    for folder in ("reactor", "protocols"):
        for path in sorted((TOP / folder).rglob("*.hpp")):
            name = str(path.relative_to(TOP))
            if name.endswith("_impl.hpp") or "/detail/" in name or name.startswith(("protocols/programs/",
                                                                                      "protocols/examples/")):
                continue
            yield name, path.read_text(encoding="utf-8")


class Options(unittest.TestCase):
    def test_all_options_together_are_within_their_budget(self):
        found = {folder: [] for folder in BUDGETS}
        for name, text in public_headers():
            folder = max((folder for folder in BUDGETS if name.startswith(folder)), key=len)
            for struct, fields in fields_of(text):
                found[folder] += [f"{struct}::{field}" for field in fields]
        for folder, fields in found.items():
            self.assertLessEqual(len(fields), BUDGETS[folder], "\n" + "\n".join(fields))
        for known in ("Limits::close_timeout", "AcceptorOptions::max_connections", "ConnectionOptions::prepare",
                      "Rate::per_second", "RateLimits::bytes_in", "ProcessOptions::error_protocol"):
            self.assertIn(known, found[""])

    def test_a_field_is_found_however_it_is_written(self):
        header = """
            struct REACTOR_EXPORT ExampleOptions {
                enum class Kind { a, b };  // int no = 1;
                std::size_t plain = 64 * 1024;
                std::optional<std::vector<std::string>> nested;
                Rate braced{};
                std::function<void(Socket&)> callback = nullptr;
                AcceptorSharing* pointer = nullptr;
                std::string
                    broken = "over lines";
                static constexpr std::size_t most = 16;
                void apply_to(Socket& socket) const;
                std::size_t derived() const noexcept { return plain / 4; }
            };
        """
        self.assertEqual(list(fields_of(header)),
                         [("ExampleOptions", ["plain", "nested", "braced", "callback", "pointer", "broken"])])


if __name__ == "__main__":
    unittest.main()
