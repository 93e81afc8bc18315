// Where the Google Benchmark programs begin: thousands of descriptors are watched, so the limit is raised first.
#include <benchmark/benchmark.h>

#include <sys/resource.h>

#include <algorithm>

int main(int count, char** arguments) {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        const rlim_t enough = 24000;
        const rlimit more{std::max(limit.rlim_max, enough), std::max(limit.rlim_max, enough)};
        if (setrlimit(RLIMIT_NOFILE, &more) != 0) {  // only root passes the hard limit
            limit.rlim_cur = limit.rlim_max;
            setrlimit(RLIMIT_NOFILE, &limit);
        }
    }
    benchmark::Initialize(&count, arguments);
    if (benchmark::ReportUnrecognizedArguments(count, arguments)) return 1;
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
}
