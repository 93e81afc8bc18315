// A protocol that hands over to a Recorder.
#pragma once

#include "loop.hpp"

#include <reactor/stream/protocol.hpp>

#include <functional>
#include <memory>
#include <string>
#include <string_view>

/// It hands over at a line "next\n", and leaves the bytes behind it.
class Giver final : public reactor::Protocol {
public:
    struct Log {
        Journal next;
        std::string calls;
        bool gone = false, result = false, gone_in_call = false;
        std::function<void(Giver&)> in_received;
        Giver* giver = nullptr;
    };
    explicit Giver(Log& log) : log_(log) { log.giver = this; }
    ~Giver() override {
        log_.gone = true;
        log_.giver = nullptr;
    }

    using reactor::Protocol::hand_over_to;
    bool give() { return log_.result = hand_over_to(std::make_unique<Recorder>(log_.next)); }
    reactor::Transport& transport() const noexcept { return reactor::Protocol::transport(); }

private:
    std::size_t received(reactor::Bytes input) override {
        const std::string_view word = "next\n";
        if (input.size() < word.size()) return 0;
        log_.calls += "r";
        transport().write("handing over\n");
        if (log_.in_received) {
            log_.in_received(*this);
        } else {
            give();
        }
        log_.gone_in_call = log_.gone;
        return word.size();
    }
    void end_of_stream() override { log_.calls += "e"; }
    void closing() override { log_.calls += "c"; }
    void disconnected(std::error_code) override { log_.calls += "d"; }
    void pause_writing() override { log_.calls += "p"; }
    void resume_writing() override { log_.calls += "u"; }

    Log& log_;
};
