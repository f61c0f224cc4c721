// The tail of a network that ends in a resize to fewer samples, in one kernel: its samples, of which every pixel has
// FACTOR x FACTOR, stay in shared memory and become SCALE x SCALE by weighted sums in both directions; beyond the
// picture's edges the outermost samples repeat.  The picture is added within the resize, and the result clipped, where that
// is asked for.
//
// A thread resamples its pixel's samples across, with one of the neighbours' on either side, and then down.  What lies
// below the pixel is known one unit later, and what lies above it was known one before: with the halo's rows and
// columns a block has all of it.  So each row hands its last row of samples, resampled across, on to the next one,
// and the sums of those results that lack the sample below.  It does so before it waits for what the row before hands on:
// no result depends on the samples on both sides, and so no row has to wait for all rows before it.
//
// Before this text, beside what wgmma_samples.cuh wants: SCALE, SKIP, CLIP, SHARED_BYTES that a block has, and weights:
// of samples from SAMPLE_FIRST on SAMPLE_TAPS[SCALE][SAMPLE_SPAN], and of pixels likewise PICTURE_TAPS.

static_assert(HALO == 1 && SAMPLE_FIRST >= -1 && SAMPLE_FIRST + SAMPLE_SPAN <= FACTOR + 1, "one sample beyond a pixel");
static_assert(PICTURE_FIRST >= -1 && PICTURE_FIRST + PICTURE_SPAN <= 2, "one pixel beyond");

// Of sample `at` of a pixel, -1 to FACTOR, in its result `phase`.
__device__ constexpr float tap(int phase, int at) {
    return at < SAMPLE_FIRST || at >= SAMPLE_FIRST + SAMPLE_SPAN ? 0 : SAMPLE_TAPS[phase][at - SAMPLE_FIRST];
}

__device__ constexpr bool awaits_next(int phase) {
    return tap(phase, FACTOR) != 0;
}

__device__ constexpr bool needs_last(int phase) {
    return tap(phase, -1) != 0;
}

__device__ constexpr bool is_one_sided() {
    bool is = true;
    for (int phase = 0; phase < SCALE; ++phase) is = is && !(awaits_next(phase) && needs_last(phase));
    return is;
}
static_assert(is_one_sided(), "no result depends on samples on both sides");

// Where the results of `phase`, which awaits the next row, are among what a row hands on of a plane.
__device__ constexpr int place_of(int phase) {
    int rows = 1;
    for (int i = 0; i < phase; ++i) rows += awaits_next(i);
    return rows * SCALE;
}

constexpr int HANDED = place_of(SCALE);  // floats of a pixel in each plane
constexpr int HANDED_BYTES = PLANES * HANDED * WIDTH * 4;
constexpr int UNDER_WAY = 2 * GROUPS;    // rows that may have handed something on that is not taken yet
static_assert(1024 + Ring::BYTES + GROUPS * STAGE_BYTES + UNDER_WAY * HANDED_BYTES + Ring::BARRIER_BYTES <= SHARED_BYTES,
              "it fits");

__device__ inline void fetch_ahead(const u16* sample) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(sample));
}

// What a thread keeps of a row in each plane until the row before has handed on: results of the phases that lack what lies
// above.
using Kept = float[PLANES][SCALE][SCALE];

// Where a pixel's first row of samples, resampled across, is kept: in place of samples that no neighbour reads.
__device__ inline u32 place_of_first(u32 stage, int plane, int s) {
    static_assert(FACTOR >= 3 && SCALE <= FACTOR, "there are such samples");
    return stage + (plane * SAMPLES + s * FACTOR + 1) * STAGE_PITCH * 4;
}

struct StoreResized {
    Planes picture, target;
    const Work& work;
    Stage through;
    int height, width;
    u32 handed;  // shared memory: HANDED_BYTES for each row under way
    bool is_whole = are_whole<SCALE>(target);

    __device__ void read_ahead(const Unit&) const {}

    __device__ void operator()(const float (&sums)[SUMS], const Unit& unit, u32 stage) const {
        const int pixel = threadIdx.x % WARPGROUP, x = unit.x() + pixel, y = unit.y(work);
        const bool has_results = pixel >= HALO && pixel < WIDTH - HALO && x < width;
        through.put(sums, stage);
        Kept kept;
        const u32 samples = stage + pixel * 4;
        const bool is_own = unit.before(work) > 0 && unit.from_here(work) > 1;
        if (has_results) resample_row(samples, x, y, is_own, from_row(unit.number), kept);
        if (unit.number + 1 < work.last) block_arrive(HANDED_ON + unit.number % UNDER_WAY, MULTIPLYING);
        if (unit.number > work.first) block_wait(HANDED_ON + (unit.number - 1) % UNDER_WAY, MULTIPLYING);
        if (has_results) complete(unit, samples, x, y, is_own, kept);
    }

    // Where the thread's pixel finds what the row of unit `number` hands on.
    __device__ u32 from_row(int number) const {
        return handed + number % UNDER_WAY * HANDED_BYTES + threadIdx.x % WARPGROUP * 4;
    }

    // The picture's pixels around (x, y); and has the cache get what this warpgroup's next row will read.
    __device__ void read_picture(int plane, int x, int y, float (&out)[PICTURE_SPAN]) const {
        const u16* const samples = picture.samples + plane * picture.plane;
        const u16* const row = samples + (long long)min(max(y, 0), height - 1) * width;
#pragma unroll
        for (int k = 0; k < PICTURE_SPAN; ++k)
            out[k] = SKIP ? read_sample(row + min(max(x + PICTURE_FIRST + k, 0), width - 1)) : 0;
        if (SKIP) fetch_ahead(samples + (long long)min(max(y + GROUPS, 0), height - 1) * width + x);
    }

    __device__ void resample_row(u32 stage, int x, int y, bool is_own, u32 to, Kept& kept) const {
        float pixels[2][PICTURE_SPAN];
        read_picture(0, x, y, pixels[0]);
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane) {
            if (plane + 1 < PLANES) read_picture(plane + 1, x, y, pixels[(plane + 1) % 2]);
            float across[FACTOR][SCALE];
            resample_across(stage + plane * SAMPLES * STAGE_PITCH * 4, x, pixels[plane % 2], across);
            const u32 to_plane = to + plane * HANDED * WIDTH * 4;
#pragma unroll
            for (int s = 0; s < SCALE; ++s) {
                write_shared(place_of_first(stage, plane, s), across[0][s]);
                write_shared(to_plane + s * WIDTH * 4, across[FACTOR - 1][s]);
            }
#pragma unroll
            for (int phase = 0; phase < SCALE; ++phase) {
                float values[SCALE];
#pragma unroll
                for (int s = 0; s < SCALE; ++s) {
                    values[s] = 0;
#pragma unroll
                    for (int i = 0; i < FACTOR; ++i)
                        if (tap(phase, i) != 0) values[s] = fmaf(tap(phase, i), across[i][s], values[s]);
                    if (awaits_next(phase)) write_shared(to_plane + (place_of(phase) + s) * WIDTH * 4, values[s]);
                    if (needs_last(phase)) kept[plane][phase][s] = values[s];
                }
                if (!awaits_next(phase) && !needs_last(phase) && is_own) write(plane, x, y, phase, values);
            }
        }
    }

    // All rows of a pixel's samples have the same of the picture.
    __device__ void resample_across(
        u32 samples, int x, const float (&pixels)[PICTURE_SPAN], float (&out)[FACTOR][SCALE]) const {
        constexpr int LAST = (FACTOR - 1) * STAGE_PITCH * 4;
        const int to_left = x == 0 ? 0 : LAST - 4, to_right = x + 1 == width ? LAST : 4;
        float skips[SCALE];
#pragma unroll
        for (int s = 0; s < SCALE; ++s) {
            skips[s] = 0;
#pragma unroll
            for (int k = 0; k < PICTURE_SPAN; ++k)
                if (SKIP && PICTURE_TAPS[s][k] != 0) skips[s] = fmaf(PICTURE_TAPS[s][k], pixels[k], skips[s]);
        }
#pragma unroll
        for (int i = 0; i < FACTOR; ++i) {
            const u32 row = samples + i * FACTOR * STAGE_PITCH * 4;
            float values[FACTOR + 2];
            values[0] = read_shared(row + to_left);
#pragma unroll
            for (int j = 0; j < FACTOR; ++j) values[1 + j] = read_shared(row + j * STAGE_PITCH * 4);
            values[FACTOR + 1] = read_shared(row + to_right);
#pragma unroll
            for (int s = 0; s < SCALE; ++s) {
                out[i][s] = skips[s];
#pragma unroll
                for (int j = 0; j < FACTOR + 2; ++j)
                    if (tap(s, j - 1) != 0) out[i][s] = fmaf(tap(s, j - 1), values[j], out[i][s]);
            }
        }
    }

    // Beyond the picture's edges lies what is next to them.
    __device__ void complete(const Unit& unit, u32 stage, int x, int y, bool is_own, const Kept& kept) const {
        const bool is_handed = unit.number > work.first, completes_last = unit.before(work) > 1;
        const u32 from = from_row(unit.number - 1);
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane) {
            const u32 from_plane = from + plane * HANDED * WIDTH * 4;
            float above[SCALE], below[SCALE];  // of this row, and of the one before
#pragma unroll
            for (int s = 0; s < SCALE; ++s) {
                const float last = is_handed ? read_shared(from_plane + s * WIDTH * 4) : 0;
                const float first = read_shared(place_of_first(stage, plane, s));
                above[s] = y > 0 ? last : first;
                below[s] = y < height ? first : last;
            }
#pragma unroll
            for (int phase = 0; phase < SCALE; ++phase) {
                float values[SCALE];
                if (awaits_next(phase) && completes_last) {
#pragma unroll
                    for (int s = 0; s < SCALE; ++s)
                        values[s] = fmaf(
                            tap(phase, FACTOR), below[s], read_shared(from_plane + (place_of(phase) + s) * WIDTH * 4));
                    write(plane, x, y - 1, phase, values);
                }
                if (needs_last(phase) && is_own) {
#pragma unroll
                    for (int s = 0; s < SCALE; ++s)
                        values[s] = fmaf(tap(phase, -1), above[s], kept[plane][phase][s]);
                    write(plane, x, y, phase, values);
                }
            }
        }
    }

    __device__ void write(int plane, int x, int y, int phase, float (&values)[SCALE]) const {
        u16* const samples =
            target.samples + plane * target.plane + (((long long)y * SCALE + phase) * width + x) * SCALE;
#pragma unroll
        for (int s = 0; s < SCALE; ++s) values[s] = CLIP ? __saturatef(values[s]) : values[s];
        if (SCALE % 2 == 0 && is_whole)
            write_samples<true>(samples, values);
        else
            write_samples<false>(samples, values);
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, 1) KERNEL(
    const __grid_constant__ TensorMap input, const __grid_constant__ TensorMap weights,
    const float* __restrict__ bias, u16* picture, long long picture_plane, u16* target, long long target_plane,
    int height, int width, int first_row, int units_down, int strips) {
    const Work work(first_row, units_down, strips, blockIdx.x, gridDim.x);
    const u32 memory = aligned_memory(), stages = memory + Ring::BYTES, handed = stages + GROUPS * STAGE_BYTES;
    const Ring rings[1] = {{memory, handed + UNDER_WAY * HANDED_BYTES}};
    const int group = group_of_thread();
    begin(rings, GROUPS, input, weights);
    if (group == GROUPS) {
        give_up_registers<FETCHING_REGISTERS>();
        fetch(work, rings, &input, &weights, 0);
    } else {
        take_registers<MULTIPLYING_REGISTERS>();
        Weights products;
        load_weights(products, rings[0], group, product_row);
        const StoreResized finish{
            {picture, picture_plane}, {target, target_plane}, work, {bias, group}, height, width, handed};
        work_through(work, rings[0], group, stages + group * STAGE_BYTES, products, finish);
    }
}
