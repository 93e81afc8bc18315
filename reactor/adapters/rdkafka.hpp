// librdkafka driven by a reactor: the events of a producer or a consumer on the loop's thread. librdkafka does its work
// on threads of its own, and writes to a descriptor when a queue that was empty has something.
#pragma once

#include <reactor/adapters/descriptor_watch.hpp>
#include <reactor/detail/lifetime.hpp>
#include <reactor/file_descriptor.hpp>

#include <librdkafka/rdkafka.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <system_error>
#include <utility>

namespace reactor::adapters {

/// Calls `event` for each event of a queue, at most 64 in an iteration. Thread: the loop's. Errors: the constructor
/// throws std::system_error without a descriptor; those of Kafka are events (RD_KAFKA_EVENT_ERROR). Lifetime: must go
/// before the reactor and before rd_kafka_destroy; `event` may destroy it. The queue is the caller's: that of
/// rd_kafka_queue_get_main or rd_kafka_queue_get_consumer. An event lives for the call. For delivery reports set
/// RD_KAFKA_EVENT_DR with rd_kafka_conf_set_events. Source: rd_kafka_queue_io_event_enable in rdkafka.h.
class [[nodiscard]] KafkaQueue {
public:
    using Event = MoveOnlyFunction<void(rd_kafka_event_t*)>;

    [[nodiscard]] KafkaQueue(Reactor& reactor, rd_kafka_queue_t* queue, Event event)
        : reactor_(reactor),
          queue_(queue),
          event_(required(std::move(event), "KafkaQueue: the callable is empty")),
          descriptor_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
          notices_(reactor, [this](Interest) { look(); }) {
        if (!descriptor_) throw std::system_error(errno, std::generic_category(), "eventfd");
        notices_.watch(descriptor_.get(), Interest::readable);
        const std::uint64_t one = 1;
        rd_kafka_queue_io_event_enable(queue_, descriptor_.get(), &one, sizeof one);
        more_ = reactor_.defer([this] { look(); });  // for what is there already
    }
    ~KafkaQueue() { rd_kafka_queue_io_event_enable(queue_, -1, nullptr, 0); }
    KafkaQueue(const KafkaQueue&) = delete;
    KafkaQueue& operator=(const KafkaQueue&) = delete;

private:
    // There is no further notice before the queue was found empty.
    void look() {
        eventfd_t ignored = 0;
        ::eventfd_read(descriptor_.get(), &ignored);
        const Lifetime::Watch watch(lifetime_);
        for (int most = 64; most > 0; --most) {
            const std::unique_ptr<rd_kafka_event_t, decltype(&rd_kafka_event_destroy)> event(
                rd_kafka_queue_poll(queue_, 0), &rd_kafka_event_destroy);
            if (event == nullptr) return;
            event_(event.get());
            if (watch.over()) return;
        }
        more_ = reactor_.defer([this] { look(); });
    }

    Reactor& reactor_;
    rd_kafka_queue_t* queue_;
    Callback<void(rd_kafka_event_t*)> event_;
    FileDescriptor descriptor_;
    DescriptorWatch notices_;
    Deferred more_;
    Lifetime lifetime_;
};

}  // namespace reactor::adapters
