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

static inline void write_words(unsigned short* samples, unsigned int first, unsigned int second) {
    const unsigned int words[2] = {first, second};
    std::memcpy(samples, words, 8);
}

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

// Pairs of fp16, each half by itself.
template <class Work> static inline unsigned int pairwise(Work work, unsigned int a, unsigned int b = 0, unsigned int c = 0) {
    const auto half = [](unsigned int pair, int i) { return to_float(Half{(unsigned short)(pair >> 16 * i)}); };
    return two_halves(work(half(a, 0), half(b, 0), half(c, 0)), work(half(a, 1), half(b, 1), half(c, 1)));
}

static inline unsigned int two_limited_halves(float low, float high) {
    return two_halves(std::fmin(std::fmax(low, -65504.0f), 65504.0f), std::fmin(std::fmax(high, -65504.0f), 65504.0f));
}

static inline unsigned int halves_fma(unsigned int a, unsigned int b, unsigned int c) {
    return pairwise([](float a, float b, float c) { return std::fma(a, b, c); }, a, b, c);
}

static inline unsigned int halves_minus(unsigned int a, unsigned int b) {
    return pairwise([](float a, float b, float) { return a - b; }, a, b);
}

static inline unsigned int halves_max(unsigned int a, unsigned int b) {
    return pairwise([](float a, float b, float) { return std::fmax(a, b); }, a, b);
}

static inline unsigned int halves_times(unsigned int a, unsigned int b) {
    return pairwise([](float a, float b, float) { return a * b; }, a, b);
}

static inline void from_e4m3(unsigned int packed, unsigned int (&halves)[2]) {
    for (int i = 0; i < 2; ++i) halves[i] = two_halves(of_e4m3(packed >> 16 * i & 255), of_e4m3(packed >> 16 * i + 8 & 255));
}

static inline unsigned int to_e4m3(const unsigned int (&halves)[2]) {
    unsigned int packed = 0;
    for (int i = 0; i < 4; ++i)
        packed |= to_e4m3(to_float(Half{(unsigned short)(halves[i / 2] >> 16 * (i % 2))})) << 8 * i;
    return packed;
}

static inline unsigned int __byte_perm(unsigned int low, unsigned int high, unsigned int places) {
    const unsigned long long both = low | (unsigned long long)high << 32;
    unsigned int made = 0;
    for (int i = 0; i < 4; ++i) made |= (unsigned int)(both >> 8 * (places >> 4 * i & 7) & 255) << 8 * i;
    return made;
}
