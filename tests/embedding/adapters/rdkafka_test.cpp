// Against the cluster that librdkafka itself has for tests: brokers on threads of the process, over loopback TCP.
#include "driven.hpp"

#include <reactor/adapters/rdkafka.hpp>

#include <doctest/doctest.h>
#include <librdkafka/rdkafka_mock.h>

#include <optional>
#include <string>

using namespace reactor;
using namespace reactor::adapters;

namespace {

struct Client {
    Client(rd_kafka_type_t type, const std::string& brokers) {
        rd_kafka_conf_t* const configuration = rd_kafka_conf_new();
        char text[200];
        const auto set = [&](const char* name, const std::string& value) {
            REQUIRE(rd_kafka_conf_set(configuration, name, value.c_str(), text, sizeof text) == RD_KAFKA_CONF_OK);
        };
        brokers.empty() ? set("test.mock.num.brokers", "1") : set("bootstrap.servers", brokers);
        if (type == RD_KAFKA_CONSUMER) set("group.id", "test");
        rd_kafka_conf_set_events(configuration, RD_KAFKA_EVENT_DR);
        kafka = rd_kafka_new(type, configuration, text, sizeof text);
        REQUIRE(kafka != nullptr);
        queue = type == RD_KAFKA_CONSUMER ? rd_kafka_queue_get_consumer(kafka) : rd_kafka_queue_get_main(kafka);
    }
    ~Client() {
        rd_kafka_queue_destroy(queue);
        rd_kafka_destroy(kafka);
    }
    Client(const Client&) = delete;
    rd_kafka_t* kafka;
    rd_kafka_queue_t* queue;
};

}  // namespace

TEST_CASE("librdkafka: messages are delivered, reported and consumed, at most 64 events in an iteration") {
    Reactor reactor;
    Client producer(RD_KAFKA_PRODUCER, "");
    Client consumer(RD_KAFKA_CONSUMER, rd_kafka_mock_cluster_bootstraps(rd_kafka_handle_mock_cluster(producer.kafka)));
    constexpr int messages = 500;
    int delivered = 0, consumed = 0;
    const KafkaQueue reports(reactor, producer.queue, [&](rd_kafka_event_t* event) {
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR) delivered += int(rd_kafka_event_message_count(event));
    });
    std::optional<KafkaQueue> fetched;
    fetched.emplace(reactor, consumer.queue, [&](rd_kafka_event_t* event) {
        const rd_kafka_message_t* const message = rd_kafka_event_message_next(event);
        if (rd_kafka_event_type(event) != RD_KAFKA_EVENT_FETCH || message == nullptr || message->err != 0) return;
        if (++consumed == messages) fetched.reset();  // in its own call
    });
    rd_kafka_topic_partition_list_t* const list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, "news", 0)->offset = RD_KAFKA_OFFSET_BEGINNING;
    REQUIRE(rd_kafka_assign(consumer.kafka, list) == RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_topic_partition_list_destroy(list);
    for (int i = 0; i < messages; ++i)
        REQUIRE(rd_kafka_producev(producer.kafka, RD_KAFKA_V_TOPIC("news"), RD_KAFKA_V_PARTITION(0),
                                  RD_KAFKA_V_VALUE(const_cast<char*>("x"), 1), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                                  RD_KAFKA_V_END) == RD_KAFKA_RESP_ERR_NO_ERROR);
    const Cost cost = cost_of(reactor, "librdkafka: a message of 500, produced, reported and consumed", messages, [&] {
        run_until(reactor, [&] { return delivered == messages && consumed == messages; });
    });
    CHECK(cost.iterations <= 1);
    CHECK_FALSE(fetched.has_value());
}
