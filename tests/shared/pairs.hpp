// In place of kernels/pairs.cuh, beside cuda_words.hpp.

#pragma once

// The numbers of e4m3 by their codes.
static const struct Numbers {
    float of[256];

    Numbers() {
        for (int code = 0; code < 256; ++code) {
            const int exponent = code >> 3 & 15, fraction = code & 7;
            const float size =
                exponent ? std::ldexp(8.0f + fraction, exponent - 10) : std::ldexp((float)fraction, -9);
            of[code] = (code & 127) == 127 ? NAN : code & 128 ? -size : size;
        }
    }
} numbers;

// Rounded to nearest even, limited to 448.
static unsigned char to_code(float value) {
    const unsigned char sign = std::signbit(value) ? 128 : 0;
    if (std::isnan(value)) return 127;
    const float size = std::fabs(value);
    int code = 0;
    for (int step = 64; step > 0; step /= 2)
        if (numbers.of[code + step] <= size) code += step;
    const float below = size - numbers.of[code], above = numbers.of[code + 1] - size;
    return sign | (above < below || (above == below && code % 2) ? code + 1 : code);
}

static unsigned int __byte_perm(unsigned int low, unsigned int high, unsigned int places) {
    const unsigned long long both = low | (unsigned long long)high << 32;
    unsigned int made = 0;
    for (int i = 0; i < 4; ++i) made |= (unsigned int)(both >> 8 * (places >> 4 * i & 7) & 255) << 8 * i;
    return made;
}

static unsigned int two_halves(float low, float high) {
    Half both[2];
    from_float(low, both[0]);
    from_float(high, both[1]);
    return both[0].bits | (unsigned int)both[1].bits << 16;
}

using Pair = unsigned int;

static float half_of(Pair pair, int i) { return to_float(Half{(unsigned short)(pair >> 16 * i)}); }

// Each half by itself.
template <class Work> static Pair pairwise(Work work, Pair a, Pair b, Pair c = 0) {
    const auto half = [&](int i) { return work(half_of(a, i), half_of(b, i), half_of(c, i)); };
    return two_halves(half(0), half(1));
}

static Pair limited_pair(float first, float second) {
    const auto limited = [](float value) { return std::fmin(std::fmax(value, -65504.0f), 65504.0f); };
    return two_halves(limited(first), limited(second));
}

static Pair pair_fma(Pair a, Pair b, Pair c) {
    return pairwise([](float a, float b, float c) { return fused(a, b, c); }, a, b, c);
}

static Pair pair_minus(Pair a, Pair b) {
    return pairwise([](float a, float b, float) { return a - b; }, a, b);
}

static Pair pair_max(Pair a, Pair b) {
    return pairwise([](float a, float b, float) { return std::fmax(a, b); }, a, b);
}

static Pair pair_times(Pair a, Pair b) {
    return pairwise([](float a, float b, float) { return a * b; }, a, b);
}

static void from_e4m3(unsigned int packed, Pair (&pairs)[2]) {
    for (int i = 0; i < 2; ++i) pairs[i] = two_halves(numbers.of[packed >> 16 * i & 255], numbers.of[packed >> 16 * i + 8 & 255]);
}

static unsigned int to_e4m3(Pair first, Pair second) {
    return to_code(half_of(first, 0)) | to_code(half_of(first, 1)) << 8 | to_code(half_of(second, 0)) << 16 |
           to_code(half_of(second, 1)) << 24;
}

static Pair bent(Pair pair, Pair slopes) { return pair_max(pair, pair_times(pair, slopes)); }
