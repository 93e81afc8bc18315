#!/usr/bin/env python3
"""A factory that cannot work is refused by the compiler with a sentence that names the mistake."""
import os
import subprocess
import sys
import unittest

COMPILER = sys.argv[1:]
TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
PROGRAM = '''
#include <reactor/datagram/datagram_protocol.hpp>
#include <reactor/stream/protocol.hpp>
#include <string>
using namespace reactor;
struct Plain {{}};
struct Echo : Protocol {{ std::size_t received(Bytes input) override {{ return input.size(); }} }};
struct Hidden : private Echo {{}};
struct Unfinished : Protocol {{}};
struct Named : Echo {{ explicit Named(std::string&) {{}} }};
struct Owner : Echo {{ explicit Owner(std::unique_ptr<int>) {{}} }};
struct Box : DatagramProtocol {{ void received(const Datagram&) override {{}} }};
void given(std::string& name) {{ (void)name; {statement} }}
'''


class FactoryMessages(unittest.TestCase):
    def errors_of(self, statement):
        result = subprocess.run([*COMPILER, '-std=c++20', '-fsyntax-only', '-I', TOP, '-x', 'c++', '-'], text=True,
                                input=PROGRAM.format(statement=statement), capture_output=True, timeout=120)
        return result.stderr if result.returncode else ''

    def test_what_fits_compiles(self):
        self.assertEqual('', self.errors_of('ProtocolFactory a = factory<Echo>(); DatagramProtocolFactory b = factory<Box>(); '
                                            'ProtocolFactory c = factory<Named>(std::ref(name));'))

    def test_each_mistake_has_a_sentence_of_its_own(self):
        for statement, sentence in {
            'factory<Plain>();': 'P must be derived publicly from reactor::Protocol or reactor::DatagramProtocol',
            'factory<Hidden>();': 'P must be derived publicly from reactor::Protocol or reactor::DatagramProtocol',
            'factory<Unfinished>();': 'P is abstract, so it still has to implement a pure virtual function',
            'factory<Named>(5);': 'P has no public constructor that takes copies of these arguments',
            'factory<Named>(name);': 'pass an object that it takes by reference with std::ref',
            'factory<Owner>(std::make_unique<int>(1));': 'cannot give away an argument that can only be moved',
        }.items():
            with self.subTest(statement):
                self.assertIn(sentence, self.errors_of(statement).replace('" "', ''))


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
