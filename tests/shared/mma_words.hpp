// For whole kernels of the mma.sync kind beside cuda_words.hpp, in place of half.cuh and instructions.cuh: the threads of a
// block are fibers, which take turns where they wait, and what a warp does together is done by the last of its lanes to come.
// Shared memory that a launch gives is an array, an address an offset in it.  Copies are there at once.

#include "pairs.hpp"

#include <cstdlib>
#include <ucontext.h>
#include <utility>

#pragma GCC optimize("O2")

#define __CUDA_ARCH__ 890
#define __shared__ static
#define __align__(bytes)
#define __shfl_sync(mask, value, lane) (value)

struct float2 {
    float x, y;
};

template <class T> static inline T min(T a, T b) { return a < b ? a : b; }

static inline float __int_as_float(int bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

alignas(128) unsigned char shared[256 << 10];

constexpr int MOST_THREADS = 1024, STACK_BYTES = 64 << 10;

struct Fiber {
    ucontext_t context;
    bool done;
};

struct Warp {
    int arrived;
    unsigned int times;
    struct {
        float* sums;
        const unsigned int* a;
        unsigned int* matrices;
        unsigned int b[2], row, word;
    } lanes[32];
};

struct Barrier {
    int count, missing, phase;
};

static Fiber fibers[MOST_THREADS];
static Warp warps[MOST_THREADS / 32];
static Barrier barriers_at[sizeof(shared) / 8], whole_block;
static void (*kernel_of_block)();
static ucontext_t outside;
static int threads, current;

static void go_to(int next) {
    const int from = current;
    if (next == from) return;
    current = threadIdx.x = next;
    swapcontext(&fibers[from].context, &fibers[next].context);
}

// To the next thread of the block, or of the warp alone.
static void let_others_work(bool of_warp) {
    int next = current;
    do next = of_warp ? next / 32 * 32 + (next + 1) % 32 : (next + 1) % threads;
    while (fibers[next].done && next != current);
    go_to(next);
}

static void fiber() {
    kernel_of_block();
    fibers[current].done = true;
    let_others_work(false);
    setcontext(&outside);  // All are done.
}

template <class Work> static void together(Work work) {
    Warp& warp = warps[current / 32];
    const unsigned int times = warp.times;
    if (++warp.arrived == 32) {
        warp.arrived = 0;
        ++warp.times;
        work(warp);
    }
    while (warp.times == times) let_others_work(true);
}

static void arrived(Barrier& barrier) {
    if (--barrier.missing > 0) return;
    barrier.missing = barrier.count;
    ++barrier.phase;
}

static void __syncwarp() {
    together([](Warp&) {});
}

static unsigned int __shfl_xor_sync(unsigned int, unsigned int word, int distance) {
    auto* const lanes = warps[current / 32].lanes;
    lanes[current % 32].word = word;
    __syncwarp();
    const unsigned int found = lanes[(current % 32) ^ distance].word;
    __syncwarp();
    return found;
}

static void __syncthreads() {
    const int phase = whole_block.phase;
    arrived(whole_block);
    while (whole_block.phase == phase) let_others_work(false);
}

// `kernel` in `count` threads.
static void run_block(int count, void (*kernel)()) {
    std::memset(shared, 0xff, sizeof(shared));
    threads = count;
    whole_block = {threads, threads, 0};
    kernel_of_block = kernel;
    char* const stacks = (char*)std::malloc((size_t)threads * STACK_BYTES);
    for (int i = 0; i < threads; ++i) {
        warps[i / 32] = {};
        fibers[i].done = false;
        getcontext(&fibers[i].context);
        fibers[i].context.uc_stack.ss_sp = stacks + (size_t)i * STACK_BYTES;
        fibers[i].context.uc_stack.ss_size = STACK_BYTES;
        makecontext(&fibers[i].context, fiber, 0);
    }
    current = threadIdx.x = 0;
    swapcontext(&outside, &fibers[0].context);
    std::free(stacks);
}

using Shared = unsigned int;

template <class T> static Shared shared_address(const T* pointer) { return (const unsigned char*)pointer - shared; }

static void copy_16_bytes(Shared target, const void* source, bool there) {
    if (there)
        std::memcpy(shared + target, source, 16);
    else
        std::memset(shared + target, 0, 16);
}

static void wait_for_own_copies() {}

static void init_barrier(Shared barrier, int count) { barriers_at[barrier / 8] = {count, count, 0}; }

static void arrive(Shared barrier) { arrived(barriers_at[barrier / 8]); }

static void arrive_after_own_copies(Shared barrier) { arrive(barrier); }

static void wait(Shared barrier, int phase) {
    while (barriers_at[barrier / 8].phase % 2 == phase % 2) let_others_work(false);
}

static void load_matrices(unsigned int (&matrices)[4], Shared row) {
    auto& own = warps[current / 32].lanes[current % 32];
    own.matrices = matrices;
    own.row = row;
    together([](Warp& warp) {
        for (int lane = 0; lane < 32; ++lane)
            for (int i = 0; i < 4; ++i)
                std::memcpy(warp.lanes[lane].matrices + i, shared + warp.lanes[8 * i + lane / 4].row + lane % 4 * 4, 4);
    });
}

// Of 32 bytes, as many numbers as they are.
template <int BYTES> static void numbers_of(const unsigned char* bytes, float* found) {
    for (int i = 0; i < 32 / BYTES; ++i)
        if (BYTES == 2)
            found[i] = to_float(Half{(unsigned short)(bytes[2 * i] | bytes[2 * i + 1] << 8)});
        else
            found[i] = numbers.of[bytes[i]];
}

// As the PTX manual has m16n8k16 of fp16 and m16n8k32 of e4m3: word i of a lane's is of row g + i % 2 * 8, or of column g,
// and the bytes from i / 2 * 16 + 4 q, or i * 16 + 4 q, on.
template <int BYTES>
static void multiplied(float (&sums)[4], const unsigned int (&a)[4], unsigned int b0, unsigned int b1) {
    auto& own = warps[current / 32].lanes[current % 32];
    own.sums = sums;
    own.a = a;
    own.b[0] = b0;
    own.b[1] = b1;
    together([](Warp& warp) {
        unsigned char rows[16][32], columns[8][32];
        for (int lane = 0; lane < 32; ++lane) {
            const int g = lane / 4, q = lane % 4;
            for (int i = 0; i < 4; ++i) std::memcpy(rows[g + i % 2 * 8] + i / 2 * 16 + 4 * q, warp.lanes[lane].a + i, 4);
            for (int i = 0; i < 2; ++i) std::memcpy(columns[g] + i * 16 + 4 * q, warp.lanes[lane].b + i, 4);
        }
        float left[16][32], right[8][32];
        for (int i = 0; i < 16; ++i) numbers_of<BYTES>(rows[i], left[i]);
        for (int i = 0; i < 8; ++i) numbers_of<BYTES>(columns[i], right[i]);
        for (int lane = 0; lane < 32; ++lane)
            for (int i = 0; i < 4; ++i) {
                const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
                double sum = warp.lanes[lane].sums[i];
                for (int k = 0; k < 32 / BYTES; ++k) sum += (double)left[row][k] * right[column][k];
                warp.lanes[lane].sums[i] = sum;
            }
    });
}

static void multiply_add(float (&sums)[4], const unsigned int (&a)[4], unsigned int b0, unsigned int b1) {
    multiplied<2>(sums, a, b0, b1);
}

static void multiply_add_e4m3(float (&sums)[4], const unsigned int (&a)[4], unsigned int b0, unsigned int b1) {
    multiplied<1>(sums, a, b0, b1);
}

static unsigned int halves(float low, float high) { return two_halves(low, high); }

// An argument of a launch.
struct Word {
    long long word;

    operator int() const { return word; }
    operator long long() const { return word; }
    template <class T> operator T*() const { return (T*)word; }
};

template <class... Arguments> struct Launch {
    static inline void (*kernel)(Arguments...);
    static inline const Word* words;

    template <std::size_t... I> static void call(std::index_sequence<I...>) { kernel(words[I]...); }

    static void thread() { call(std::index_sequence_for<Arguments...>()); }
};

// All blocks of a grid, one after the other.
template <class... Arguments>
static void launch(void (*kernel)(Arguments...), int count, const int* grid, const Word* words) {
    using Own = Launch<Arguments...>;
    Own::kernel = kernel;
    Own::words = words;
    gridDim = {(unsigned int)grid[0], (unsigned int)grid[1]};
    for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) run_block(count, Own::thread);
}
