/* What gcc's -fsanitize-coverage=trace-pc,trace-cmp calls, told to libFuzzer.
 *
 * clang writes counters inline that libFuzzer knows by itself; gcc calls a function at every edge instead. With this one
 * the compiler that builds the extension anyway is enough. Comparisons of integers go to libFuzzer directly. */
#include <stdint.h>

#define EDGES (1 << 18)

typedef struct {
    uintptr_t pc, flags;
} Place;

static uint8_t counters[EDGES];
static Place places[EDGES]; /* libFuzzer wants one for each counter, and looks at it only to print */

/* libFuzzer's; not there where the tests run under the sanitizers alone. */
__attribute__((weak)) void __sanitizer_cov_8bit_counters_init(uint8_t *start, uint8_t *stop);
__attribute__((weak)) void __sanitizer_cov_pcs_init(const uintptr_t *start, const uintptr_t *stop);

void count_edges(void)
{
    __sanitizer_cov_8bit_counters_init(counters, counters + EDGES);
    __sanitizer_cov_pcs_init((const uintptr_t *)places, (const uintptr_t *)(places + EDGES));
}

void __sanitizer_cov_trace_pc(void)
{
    counters[(uintptr_t)__builtin_return_address(0) % EDGES]++;
}

/* gcc traces comparisons of floats too, which libFuzzer has no use for. */
void __sanitizer_cov_trace_cmpf(float left, float right)
{
    (void)left;
    (void)right;
}

void __sanitizer_cov_trace_cmpd(double left, double right)
{
    (void)left;
    (void)right;
}
