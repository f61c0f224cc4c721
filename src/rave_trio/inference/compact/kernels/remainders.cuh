// Numbers of e4m3 and the remainders of rounding to them, as kernels_protocol.py has both, for lanes that hold features as
// features.cuh says: of a run of 16 pixels, which begins at a multiple of 16, pixels g and g + 8.
//
// Of a remaining channel the pixels 2 c, 2 c + 1 and those 8 further are one word of memory.  Lane 2 c (of those with the
// same q) has two of its numbers, lane 2 c + 1 the others.  So the two swap, and each has whole words of half its channels.

constexpr int REMAINING = 8;          // Channels: those with even numbers
constexpr int REMAINING_BEFORE = 16;  // of the first ones.
constexpr int REMAINDER_PIXELS = 128;

// Number `i` of the four in a word.  An fp32 with the same exponent and fraction is 2^-120 times as large, and exact; 127,
// which is no number, becomes one.
__device__ inline float of_e4m3(unsigned int word, int i) {
    return __int_as_float((int)(word << (24 - 8 * i)) >> 4 & 0x87f00000) * 0x1p120f;
}

// How many bytes those of a row take.
__device__ inline int remainders_of_row(int width) {
    return (width + REMAINDER_PIXELS - 1) / REMAINDER_PIXELS * (REMAINDER_PIXELS * REMAINING);
}

// Where the remainders of a run lie among `all` of a picture: row y, from pixel x on.
template <class Byte> __device__ inline Byte* remainders_of_run(Byte* all, int width, int y, int x) {
    return all + (long long)y * remainders_of_row(width) + x / REMAINDER_PIXELS * (REMAINDER_PIXELS * REMAINING) +
           x % REMAINDER_PIXELS / 64 * 512 + x % 64 / 8 * 2;
}

// A lane's remainders in a run: of 2 COUNT neighbouring features, the first of which is even, of two pixels.
template <int COUNT> struct Remainders {
    static constexpr int WORDS = COUNT / 2;  // Of memory, and pairs in each of `halves`.

    bool there;  // Whether these channels have any.  Other lanes swap what is of no use, and neither read nor write.
    bool odd;    // Whether g is.
    int place;   // Of the first word in a run.
    // Pairs of numbers, of pixels g and g + 8: those of the first half of the channels, and those of the second.
    unsigned int halves[2];

    __device__ explicit Remainders(int feature)
        : there(feature < REMAINING_BEFORE), odd(threadIdx.x / 4 % 2),
          place(64 * (feature / 2 + WORDS * odd) + threadIdx.x % 32 / 8 * 16), halves() {}

    // An even lane gets the first halves of both, an odd one the second ones.  Done twice it undoes itself.
    __device__ void swap() {
        const unsigned int received = __shfl_xor_sync(0xffffffff, odd ? halves[0] : halves[1], 4);
        halves[0] = odd ? received : halves[0];
        halves[1] = odd ? halves[1] : received;
    }

    // Words of memory, of a run that remainders_of_run named.
    __device__ Words<WORDS> read(const unsigned char* run) const {
        Words<WORDS> found = {};
#pragma unroll
        for (int i = 0; i < WORDS; ++i)
            if (there) found.words[i] = *(const unsigned int*)(run + place + 64 * i);
        return found;
    }

    // Makes them the lane's own.  All lanes of the warp at once.
    __device__ void take(const Words<WORDS>& found) {
        const unsigned int last = found.words[WORDS - 1];
        halves[0] = __byte_perm(found.words[0], last, 0x6420);
        halves[1] = __byte_perm(found.words[0], last, 0x7531);
        swap();
    }

    // Of the lane's feature number 2 i, of pixel g or g + 8.
    __device__ float operator()(int i, int side) const { return of_e4m3(halves[i / WORDS], i % WORDS * 2 + side); }

    // Writes what there is now: `left` of pixels g and g + 8, of which only the first of each pair counts.  All lanes of the
    // warp at once.
    __device__ void write(unsigned char* run, const Pair (&left)[2][COUNT]) {
        Pair across[COUNT];
#pragma unroll
        for (int i = 0; i < COUNT; ++i) across[i] = __byte_perm(left[0][i], left[1][i], 0x5410);
#pragma unroll
        for (int half = 0; half < 2; ++half) halves[half] = to_e4m3(across[half * WORDS], across[half * WORDS + WORDS - 1]);
        swap();
        if (!there) return;
#pragma unroll
        for (int i = 0; i < WORDS; ++i)
            *(unsigned int*)(run + place + 64 * i) = __byte_perm(halves[0], halves[1], i == 0 ? 0x5140 : 0x7362);
    }
};

// Bends and rounds a pixel's results, and leaves what rounding takes away.
template <int COUNT> __device__ inline Words<COUNT / 2> rounded(Pair (&results)[COUNT], const Pair (&slopes)[COUNT]) {
    Words<COUNT / 2> made;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) results[i] = bent(results[i], slopes[i]);
#pragma unroll
    for (int i = 0; i < COUNT; i += 2) {
        Pair taken[2];
        made.words[i / 2] = to_e4m3(results[i], results[i + 1]);
        from_e4m3(made.words[i / 2], taken);
        for (int j = 0; j < 2; ++j) results[i + j] = pair_minus(results[i + j], taken[j]);
    }
    return made;
}
