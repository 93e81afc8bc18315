#!/usr/bin/env python3
"""A coroutine that would use what is gone is refused by the compiler with a sentence that names the mistake."""
import os
import subprocess
import sys
import unittest

COMPILER = sys.argv[1:]
TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
PROGRAM = '''
#include <reactor/coroutine/scope.hpp>
#include <functional>
#include <string>
using namespace reactor;
struct Room {{
    std::string name;
    int& count;
    Task<int> size() {{ co_return count; }}
}};
Task<int> number() {{ co_return 1; }}
Task<int> in_room(Room& room) {{ co_return room.count; }}
Task<int> with(std::function<int()> callable) {{ co_return callable(); }}
Task<int> called(auto callable) {{ co_return callable(); }}
int given(Reactor& reactor, int x, Room& room) {{ (void)x; (void)room; {statement} }}
'''
CAPTURES = 'a coroutine that is a lambda with captures: its captures are gone at its first await'


class Refused(unittest.TestCase):
    def errors_of(self, statement):
        result = subprocess.run([*COMPILER, '-std=c++20', '-fsyntax-only', '-I', TOP, '-x', 'c++', '-'], text=True,
                                input=PROGRAM.format(statement=statement), capture_output=True, timeout=120)
        return result.stderr if result.returncode else ''

    def test_what_is_sound_compiles(self):
        self.assertEqual('', self.errors_of('''
            auto plain = []() -> Task<int> { co_return 1; };
            auto taking = [](int y, Room& of) -> Task<int> { co_return y + of.count; };
            return run(reactor, plain()) + run(reactor, taking(x, room)) + run(reactor, room.size()) +
                   run(reactor, in_room(room)) + run(reactor, with([x] { return x; })) +
                   run(reactor, called([x] { return x; }));'''))

    def test_each_mistake_has_a_sentence_of_its_own(self):
        for statement, sentence in {
            'auto f = [x]() -> Task<int> { co_return x; }; return run(reactor, f());': CAPTURES,
            'auto f = [&]() -> Task<int> { co_return x; }; return run(reactor, f());': CAPTURES,
            'auto f = [x](auto y) -> Task<int> { co_return x + y; }; return run(reactor, f(1));': CAPTURES,
            'auto f = [](std::string&& s) -> Task<int> { co_return int(s.size()); }; return run(reactor, f("a"));':
                "a coroutine's parameter is an rvalue reference",
        }.items():
            with self.subTest(statement):
                self.assertIn(sentence, self.errors_of(statement).replace('" "', ''))

    def test_a_task_in_a_variable_is_awaited_by_moving_it(self):
        function = 'return run(reactor, [](int) -> Task<int> {{ Task<int> task = number(); co_return co_await {}; }}(x));'
        self.assertEqual('', self.errors_of(function.format('std::move(task)')))
        self.assertNotEqual('', self.errors_of(function.format('task')))


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
