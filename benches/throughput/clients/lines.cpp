// mongostream from C++, in batches as JSON lines: URI, second, events.
#include <mongostream.hpp>

#include "meter.h"

int main(int count, char **arguments) {
    if (count < 4) die("URI, second, events");
    const long wanted = std::atol(arguments[3]);
    long events = 0, bytes = 0;
    mongostream::buffer buffer{4096};
    const double began = meter_now(), cpu = meter_cpu();
    const auto worker = mongostream::watch(arguments[1])
                            .database("bench")
                            .collection("orders")
                            .option("start_at_time", arguments[2])
                            .start(buffer);
    while (events < wanted) {
        auto batch = buffer.recv_batch(1000);
        bytes += static_cast<long>(batch->json_lines().size());
        events += static_cast<long>(batch->size());
        batch->ack();
    }
    meter_report(began, cpu, events, bytes);
}
