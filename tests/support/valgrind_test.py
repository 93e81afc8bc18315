"""What valgrind sees of a test program: no descriptor is left open, no memory is lost or used before it is written.
valgrind_test.py PROGRAM."""

import re
import shutil
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv[1]
LIMIT = 420  # seconds for the program
FINDING = 99  # the exit status that says so
# valgrind plays the limit of descriptors itself: what is accepted past it is closed again and not left waiting. And a
# thread that cannot have its stack is another error there, and a vfork is a fork, which does not tell of exec's error. It
# knows no pidfd_open(2): a thread that waits for a traced child waits for its tracer, and the end of a successor's pipe is
# the successor's end. A program's own file is valgrind's, and what lies below an alternate stack's frame is taken for
# freed: after that error every forked child ends with FINDING. What a thread held is lost in a child, which lacks the thread.
# A filter of system calls would be valgrind's, too. It knows no new namespaces.
NOT_AS_IN_THE_KERNEL = ("S27: out of descriptors*,Out of descriptors*,S76: with no thread to be had*,"
                        "What cannot be executed*,A child runs in the directory*,S103: a child that is traced*,"
                        "A command that cannot be started*,S98: a program's path*,S98: a successor that fails has*,"
                        "*a successor's death is noticed*,S97: a signal's handler runs on the alternate*,"
                        "*a child forked while look-ups are stuck*,S96: under a filter*,"
                        "S3: a changed host name*,S3: inside another loop such a notice*")
# To fork a valgrind takes 30 ms. What one child leaves behind the other tests show, and this one without valgrind. What
# AddressSanitizer does not see is a descriptor that stays open and memory that is read before it is written: one pass of
# a line of code shows both. Tests that do the same with many inputs, every cut of an input, random events, megabytes,
# are for AddressSanitizer and the fuzzers: they were two thirds of valgrind's time.
TOO_SLOW = ("A thousand children*,S88: any split of the input*,S88: taken in parts*,S58: random schedules*,"
            "every case of HTTP*,every request is understood*,every response is understood*,a client understands every response*,"
            "* every cut*,Every sequence of events*,*random*,*hundred thousand*,* million *,*ten thousand times*,*8 MB*,"
            "S40: against a peer*,S40: an echo whose*,S40: the character*,S40: a client that has*,S87: fed byte by byte*,"
            "A peer that sends small requests*,3?000 connections*,Much is passed on*,S82: of many processes*,"
            "* every state*,* all states*,A scripted demultiplexer that reports*,Several registrations of one descriptor*,"
            "Passed on? who takes some*,Either end may go at any moment*,S41: writes of every size*,S91: a limit may have*,"
            "S91: whatever sizes*,S52: after a burst of 64 MB*,500 resets*,A network in memory in which there is always*")

# "FILE DESCRIPTORS: 5 open (3 std) at exit.", and for each of them where it was opened, or that it was there before.
DESCRIPTORS = re.compile(r"FILE DESCRIPTORS: (\d+) open \((\d+) (?:std|inherited)\) at exit")
INHERITED = re.compile(r"<inherited from parent>")


@unittest.skipUnless(shutil.which("valgrind"), "valgrind is not installed")
class Valgrind(unittest.TestCase):
    def watch(self, *command):
        """Runs it to its end under valgrind. What it printed, and what valgrind did."""
        with tempfile.NamedTemporaryFile("r", errors="replace") as log:
            done = subprocess.run(
                ["valgrind", "--track-fds=yes", "--leak-check=full", "--errors-for-leak-kinds=definite,indirect",
                 f"--error-exitcode={FINDING}", "--child-silent-after-fork=yes", "--log-file=" + log.name, *command],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                timeout=LIMIT)
            told = "".join(line for line in log if not line.startswith("--"))  # system calls that it does not know
        self.assertEqual(done.returncode, 0, done.stdout + told)
        found = DESCRIPTORS.search(told)
        self.assertIsNotNone(found, "valgrind does not say which descriptors are open:\n" + told)
        left = int(found[1]) - int(found[2]) - len(INHERITED.findall(told))
        self.assertLessEqual(left, 0, told)
        self.assertIn("ERROR SUMMARY: 0 errors", told)
        return done.stdout

    def test_finds_a_descriptor_that_is_left_open(self):
        """Or the other tests would prove nothing."""
        with self.assertRaisesRegex(AssertionError, rf"^(1 not less than or equal to 0|{FINDING} != 0) : "):
            self.watch("sh", "-c", "exec 5</dev/null")

    def test_the_program_leaves_nothing_open_and_loses_nothing(self):
        told = self.watch(PROGRAM, f"--test-case-exclude={NOT_AS_IN_THE_KERNEL},{TOO_SLOW}")
        self.assertRegex(told, r"test cases: *\d+ \| *\d+ passed \| 0 failed")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
