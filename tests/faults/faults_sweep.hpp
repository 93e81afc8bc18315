// One run under a plan, with all that it leaves behind; and a run for every call that can fail, and every error.
#pragma once

#include "faults.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <initializer_list>
#include <string>
#include <system_error>
#include <utility>

namespace faults {

/// The common part of an outcome.
struct Traces {
    bool struck = false;
    int exceptions = 0;
    std::size_t left_open = 0;
    unsigned bad_closes = 0;
    long leaked = 0;
};

/// Runs `body` with the plan in force, and writes down what is left of it.
template <class Body>
void run(const Plan& plan, bool over_network, Traces& traces, Body&& body) {
    const long before = live_allocations();
    {
        reactor::testing::ManualClock clock;
        const Armed armed(plan, clock, over_network);
        try {
            body(clock);
        } catch (const std::exception&) {
            ++traces.exceptions;
        }
        traces.struck = struck();
        traces.left_open = open_descriptors();
        traces.bad_closes = bad_closes();
    }
    traces.leaked = live_allocations() - before;
}

/// Runs `body` with a plan in which the first allocation fails, then with the second, and so on until none has failed.
/// `body` arms the plan where it wants it, and returns whether anything failed.
template <class Body>
void fail_each_allocation(Body&& body) {
    Plan plan;
    plan.call = Call::allocation;
    for (bool failed = true; failed; ++plan.from) {
        INFO("from allocation ", plan.from);
        REQUIRE(plan.from < 100);
        failed = body(std::as_const(plan));
    }
}

/// Each of these calls fails once, with each of its errors but these: `run` says what came of it and `check` judges
/// that. How often something failed.
template <class Run, class Check>
int fail_each(std::initializer_list<Call> calls, std::initializer_list<int> without, Run&& run, Check&& check) {
    int runs = 0;
    for (const Call call : calls) {
        for (const int error : errors_of(call)) {
            if (std::find(without.begin(), without.end(), error) != without.end()) continue;
            Plan plan;
            plan.call = call;
            plan.error = error;
            for (;; ++plan.from, ++runs) {
                REQUIRE(plan.from < 1'000);
                const auto outcome = run(plan);
                INFO(std::string(name_of(call)), " ", plan.from, ": ", std::generic_category().message(error));
                CHECK(outcome.left_open == 0);
                CHECK(outcome.bad_closes == 0);
                CHECK(outcome.leaked == 0);
                check(plan, outcome);
                if (!outcome.struck) break;
            }
        }
    }
    return runs;
}

}  // namespace faults
