#!/bin/bash
# In AnyEvent's own loop a timer that starts itself again with no delay keeps descriptors from being looked at.
#
# Expected: a timer of 0 s that a timer's callback starts is for the next iteration, and descriptors are looked at
#   between the two. It is so with AnyEvent on top of the Event module, with the same program.
# Happens: AnyEvent's own loop in Perl goes on with timers until none is due by the time at which it began; a timer of
#   0 s is due by that time. A descriptor that was readable all the time is read after the last of 50 timers, not
#   after the first. AnyEvent::postpone behaves the same.
# Who meets it: Perl programs that cut long work into steps with timers of 0 s to stay responsive. They do while EV or
#   Event is installed, which AnyEvent prefers, and stop to be where only AnyEvent is.
# Seen with: libanyevent-perl 7.170-2+b3, libevent-perl 1.28-2, perl 5.36.0, Linux 6.18.44.
# Sources: AnyEvent(3pm), sections on timers and on postpone; one_event in AnyEvent/Loop.pm of libanyevent-perl
#   7.170-2+b3.
set -euo pipefail
source "$(dirname "$0")/packages.sh"

command -v perl >/dev/null || cannot "there is no perl"
packages libanyevent-perl=7.170-2+b3 libevent-perl=1.28-2
versions_of_perl=$(perl -e 'printf "%vd %s", $^V, join(".", (split(/\./, sprintf("%vd", $^V)))[0, 1])')
PERL5LIB=$folder/root/usr/share/perl5:$libraries/perl5/${versions_of_perl#* }
export PERL5LIB
export PERL_ANYEVENT_MODEL
perl -e 'use AnyEvent; use Event' 2>"$folder/perl" ||
    cannot "the modules do not load in this perl: $(head -n 1 "$folder/perl")"

cat >"$folder/timers.pl" <<'PERL'
use strict;
use warnings;
use Socket;
use AnyEvent;

AnyEvent::detect();
for my $way ("timers of 0 s", "postpone") {
    socketpair(my $watched, my $peer, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die;
    syswrite $peer, "x";
    my ($count, $seen_after, $timer) = (0);
    my $over = AnyEvent->condvar;
    my $step;
    $step = sub {
        return if ++$count >= 50;
        if ($way eq "postpone") { &AnyEvent::postpone($step) }
        else { $timer = AnyEvent->timer(after => 0, cb => $step) }
    };
    $step->();
    my $watch = AnyEvent->io(fh => $watched, poll => "r", cb => sub {
        sysread $watched, my $byte, 1;
        $seen_after = $count;
        $over->send;
    });
    my $limit = AnyEvent->timer(after => 5, cb => $over);
    $over->recv;
    $seen_after //= 0;
    print "$AnyEvent::MODEL, $way: the descriptor was looked at ",
        $seen_after >= 50 ? "after all 50" : $seen_after <= 2 ? "after at most 2 of 50" : "after $seen_after of 50",
        "\n";
}
PERL
versions
echo "perl ${versions_of_perl% *}"
for model in Perl Event; do
    PERL_ANYEVENT_MODEL=$model bounded perl "$folder/timers.pl"
done
verdict <<'END'
AnyEvent::Impl::Perl, timers of 0 s: the descriptor was looked at after all 50
AnyEvent::Impl::Perl, postpone: the descriptor was looked at after all 50
AnyEvent::Impl::Event, timers of 0 s: the descriptor was looked at after at most 2 of 50
AnyEvent::Impl::Event, postpone: the descriptor was looked at after at most 2 of 50
END
