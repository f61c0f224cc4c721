// The tail of a network that ends in a resize to fewer samples, in one kernel.  The resize is within the weights: in place
// of a pixel's FACTOR x FACTOR samples the outputs are, in both directions alike, sums of them.  The first SCALE are the
// pixel's own share of its results; FIRST and LAST are its outermost samples, of which a neighbour's results have a share.
// Beyond the picture's edges the outermost samples repeat.  The picture is added as it is resized, and the result clipped,
// where that is asked for.
//
// A thread completes its pixel's sums across, with those of the neighbours on either side, and then down.  What lies below
// the pixel is known one unit later, and what lies above it was known one before: with the halo's rows and columns a block
// has all of it.  So each row hands its last samples on to the next one, and those results that lack the sample below.  It
// does so before it waits for what the row before hands on: no result depends on the samples on both sides, and so no row
// has to wait for all rows before it.
//
// Before this text, beside what wgmma_samples.cuh wants: SCALE, SKIP, CLIP, SHARED_BYTES that a block has, and
// PICTURE_TAPS[SCALE][PICTURE_SPAN]: what each result has of a pixel's samples, all together, for the pixels from
// PICTURE_FIRST on.

constexpr int FIRST = SCALE, LAST = SCALE + 1, PARTS = SCALE + 2;
static_assert(PARTS <= FACTOR, "there are no more sums than samples");
static_assert(HALO == 1 && PICTURE_FIRST >= -1 && PICTURE_FIRST + PICTURE_SPAN <= 2, "one pixel beyond");

// What result `phase` has of the pixel's own samples (0), the one before (-1) and the one behind (1).
__device__ constexpr float tap(int phase, int pixel) {
    return pixel < PICTURE_FIRST || pixel >= PICTURE_FIRST + PICTURE_SPAN ? 0 : PICTURE_TAPS[phase][pixel - PICTURE_FIRST];
}

// What a sum is if all samples are 1.
__device__ constexpr float total(int part) {
    return part < SCALE ? tap(part, 0) : 1;
}

__device__ constexpr bool awaits_next(int phase) {
    return tap(phase, 1) != 0;
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

// Where the results of `phase`, which awaits the next row, are among what a row hands on of a plane, behind its last samples.
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

using Rows = float[PLANES][PARTS][SCALE];  // A pixel's sums down of its results across

// Whether registers are left beside weights and sums to read the picture before the products, behind which reading hides.
constexpr bool READS_AHEAD = 4 * PRODUCTS + SUMS < 200;

struct StoreResized {
    Planes picture, target;
    const Work& work;
    Stage through;
    int height, width;
    u32 handed;  // shared memory: HANDED_BYTES for each row under way
    bool is_whole = are_whole<SCALE>(target);
    u16 pixels[PLANES][3];  // of the picture, with one on either side

    __device__ void read_ahead(const Unit& unit) {
        if (READS_AHEAD) read_picture(unit);
    }

    __device__ void operator()(const float (&sums)[SUMS], const Unit& unit, u32 stage) {
        const int pixel = threadIdx.x % WARPGROUP, x = unit.x() + pixel, y = unit.y(work);
        const bool has_results = (u32)(pixel - HALO) < WIDTH - 2 * HALO && x < width;
        Rows rows;
        through.put_half(sums, stage, 0);  // which leaves registers for what is read meanwhile
        if (!READS_AHEAD) read_picture(unit);
        through.put_half(sums, stage, 1);
        through.wait();
        if (has_results) {
            complete_across(stage + pixel * 4, x, rows);
            if (SKIP) add_picture(rows);
            hand_on(rows, from_row(unit.number));
        }
        if (unit.number + 1 < work.last) block_arrive(HANDED_ON + unit.number % UNDER_WAY, MULTIPLYING);
        if (unit.number > work.first) block_wait(HANDED_ON + (unit.number - 1) % UNDER_WAY, MULTIPLYING);
        if (has_results) complete_down(unit, x, y, rows);
    }

    // Where the thread's pixel finds what the row of unit `number` hands on.
    __device__ u32 from_row(int number) const {
        return handed + number % UNDER_WAY * HANDED_BYTES + threadIdx.x % WARPGROUP * 4;
    }

    __device__ void read_picture(const Unit& unit) {
        const int x = unit.x() + threadIdx.x % WARPGROUP, y = unit.y(work);
        const long long row = (long long)min(max(y, 0), height - 1) * width;
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane)
#pragma unroll
            for (int i = 0; i < 3; ++i)
                pixels[plane][i] = SKIP
                    ? picture.samples[plane * picture.plane + row + min(max(x + i - 1, 0), width - 1)] : 0;
    }

    __device__ void complete_across(u32 stage, int x, Rows& rows) const {
        constexpr int PITCH = STAGE_PITCH * 4;
        const int to_left = x == 0 ? FIRST * PITCH : LAST * PITCH - 4;
        const int to_right = x + 1 == width ? LAST * PITCH : FIRST * PITCH + 4;
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane)
#pragma unroll
            for (int part = 0; part < PARTS; ++part) {
                const u32 row = stage + (plane * SAMPLES + part * FACTOR) * PITCH;
#pragma unroll
                for (int s = 0; s < SCALE; ++s) {
                    float& sum = rows[plane][part][s];
                    sum = read_shared(row + s * PITCH);
                    if (tap(s, -1) != 0) sum = fmaf(tap(s, -1), read_shared(row + to_left), sum);
                    if (tap(s, 1) != 0) sum = fmaf(tap(s, 1), read_shared(row + to_right), sum);
                }
            }
    }

    // All samples of a pixel have the same of the picture.
    __device__ void add_picture(Rows& rows) const {
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane)
#pragma unroll
            for (int s = 0; s < SCALE; ++s) {
                float across = 0;
#pragma unroll
                for (int i = 0; i < 3; ++i)
                    if (tap(s, i - 1) != 0) across = fmaf(tap(s, i - 1), read_sample(&pixels[plane][i]), across);
#pragma unroll
                for (int part = 0; part < PARTS; ++part)
                    rows[plane][part][s] = fmaf(total(part), across, rows[plane][part][s]);
            }
    }

    __device__ void hand_on(const Rows& rows, u32 to) const {
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane)
#pragma unroll
            for (int s = 0; s < SCALE; ++s) {
                const u32 place = to + (plane * HANDED + s) * WIDTH * 4;
                write_shared(place, rows[plane][LAST][s]);
#pragma unroll
                for (int phase = 0; phase < SCALE; ++phase)
                    if (awaits_next(phase)) write_shared(place + place_of(phase) * WIDTH * 4, rows[plane][phase][s]);
            }
    }

    __device__ void complete_down(const Unit& unit, int x, int y, const Rows& rows) const {
        const bool is_own = unit.before(work) > 0 && unit.from_here(work) > 1, completes_last = unit.before(work) > 1;
        const u32 from = from_row(unit.number - 1);
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane) {
            const u32 from_plane = from + plane * HANDED * WIDTH * 4;
            float above[SCALE], below[SCALE];  // of this row, and of the one before
#pragma unroll
            for (int s = 0; s < SCALE; ++s) {
                const float last = unit.number > work.first ? read_shared(from_plane + s * WIDTH * 4) : 0;
                above[s] = y > 0 ? last : rows[plane][FIRST][s];
                below[s] = y < height ? rows[plane][FIRST][s] : last;
            }
#pragma unroll
            for (int phase = 0; phase < SCALE; ++phase) {
                float values[SCALE];
                if (awaits_next(phase) && completes_last) {
#pragma unroll
                    for (int s = 0; s < SCALE; ++s)
                        values[s] = fmaf(
                            tap(phase, 1), below[s], read_shared(from_plane + (place_of(phase) + s) * WIDTH * 4));
                    write(plane, x, y - 1, phase, values);
                }
                if (!awaits_next(phase) && is_own) {
#pragma unroll
                    for (int s = 0; s < SCALE; ++s) values[s] = fmaf(tap(phase, -1), above[s], rows[plane][phase][s]);
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
    const float* __restrict__ bias, const float* __restrict__ scale, u16* picture, long long picture_plane,
    u16* target, long long target_plane, int height, int width, int first_row, int units_down, int strips) {
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
        StoreResized finish{
            {picture, picture_plane}, {target, target_plane}, work, {scale, bias, group}, height, width, handed};
        work_through(work, rings[0], group, stages + group * STAGE_BYTES, products, finish);
    }
}
