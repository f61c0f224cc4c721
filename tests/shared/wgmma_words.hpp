// For the texts of the wgmma kernels beside cuda_words.hpp, with every `asm` made ASM, which is nothing: what a thread does
// between barriers runs thread after thread.  Shared memory is an array, and an address an offset in it.

#include "pairs.hpp"

#define ASM(...)
#define __shared__
#define __grid_constant__
#define __shfl_sync(mask, value, lane) (value)
#define __cvta_generic_to_shared(pointer) 0
#define __saturatef(value) std::fmin(std::fmax(value, 0.0f), 1.0f)

template <class T> static inline T min(T a, T b) { return a < b ? a : b; }
template <class T> static inline T max(T a, T b) { return a > b ? a : b; }

static unsigned char shared_memory[1 << 18];
unsigned char memory[1];  // what whole kernels call theirs, which are not run

static inline float read_shared(unsigned int address) {
    float value;
    std::memcpy(&value, shared_memory + address, 4);
    return value;
}

static inline void write_shared(unsigned int address, float value) { std::memcpy(shared_memory + address, &value, 4); }

static inline void write_pair(unsigned int address, float first, float second) {
    write_shared(address, first);
    write_shared(address + 4, second);
}

static inline float read_sample(const unsigned short* sample) { return to_float(Half{*sample}); }

static inline void write_words(unsigned short* samples, unsigned int first, unsigned int second) {
    const unsigned int words[2] = {first, second};
    std::memcpy(samples, words, 8);
}

// What a thread stores by `stmatrix`, in the order of its calls, in place of where it goes.
static unsigned int* stored;

static inline void store_transposed(unsigned int, const unsigned int (&matrices)[4]) {
    for (unsigned int word : matrices) *stored++ = word;
}
