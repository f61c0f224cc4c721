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

static inline void write_pair(unsigned int address, float first, float second) {
    write_shared(address, first);
    write_shared(address + 4, second);
}

static inline float read_sample(const unsigned short* sample) { return to_float(Half{*sample}); }

static inline unsigned int two_halves(float low, float high) {
    Half halves[2];
    from_float(low, halves[0]);
    from_float(high, halves[1]);
    return halves[0].bits | (unsigned int)halves[1].bits << 16;
}

// What a thread stores by `stmatrix`, in the order of its calls, in place of where it goes.
static unsigned int* stored;

static inline void store_transposed(unsigned int, const unsigned int (&matrices)[4]) {
    for (unsigned int word : matrices) *stored++ = word;
}

static inline float of_e4m3(unsigned char code) {
    const int exponent = code >> 3 & 15, fraction = code & 7;
    if ((code & 127) == 127) return NAN;
    const float size = exponent ? std::ldexp(8.0f + fraction, exponent - 10) : std::ldexp((float)fraction, -9);
    return code & 128 ? -size : size;
}

// Rounded to nearest even, limited to 448.
static inline unsigned char to_e4m3(float value) {
    const unsigned char sign = std::signbit(value) ? 128 : 0;
    if (std::isnan(value)) return 127;
    int best = 0;
    for (int code = 1; code < 127; ++code) {
        const float found = std::fabs(of_e4m3(code) - std::fabs(value)), least = std::fabs(of_e4m3(best) - std::fabs(value));
        if (found < least || (found == least && code % 2 == 0)) best = code;
    }
    return sign | best;
}

static inline unsigned short two_e4m3(float low, float high) { return to_e4m3(low) | to_e4m3(high) << 8; }

static inline void four_floats(unsigned int packed, float (&numbers)[4]) {
    for (int i = 0; i < 4; ++i) numbers[i] = of_e4m3(packed >> 8 * i & 255);
}
