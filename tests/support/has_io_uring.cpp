// Exits with 0 if this process may make a ring as the library makes it: io_uring(7), Linux 6.1.
#if __has_include(<linux/io_uring.h>)
#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <unistd.h>

int main() {
#if defined(IORING_SETUP_DEFER_TASKRUN)
    io_uring_params parameters{};
    parameters.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    return syscall(__NR_io_uring_setup, 8, &parameters) < 0 ? 1 : 0;
#else
    return 1;
#endif
}
#else
int main() {
    return 1;
}
#endif
