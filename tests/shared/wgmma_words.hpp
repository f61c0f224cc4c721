// For the texts of the wgmma kernels beside cuda_words.hpp, with every `asm` made ASM, which is nothing: what a thread does
// between barriers runs thread after thread.  Shared memory is an array, and an address an offset in it.

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

static inline float read_sample(const unsigned short* sample) { return to_float(Half{*sample}); }

static inline unsigned int two_halves(float low, float high) {
    Half halves[2];
    from_float(low, halves[0]);
    from_float(high, halves[1]);
    return halves[0].bits | (unsigned int)halves[1].bits << 16;
}
