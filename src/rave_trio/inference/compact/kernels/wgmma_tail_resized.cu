// The tail of a network that ends in a resize to fewer samples, in one kernel: its samples, of which every pixel has
// FACTOR x FACTOR, stay in shared memory and become SCALE x SCALE by weighted sums in both directions; beyond the
// picture's edges the outermost samples repeat.  The picture is added within the resize, and the result clipped, where that
// is asked for.
//
// A thread resamples its pixel's samples across, with one of the neighbours' on either side, and then down.  What lies
// below the pixel is known one unit later, and what lies above it was known one before: with the halo's rows and
// columns a block has all of it.  So each row hands its last row of samples, resampled across, on to the next one,
// and the sums of those results that lack the sample below.
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

// Where the results of `phase`, which awaits the next row, are among what a row hands on of a plane.
__device__ constexpr int place_of(int phase) {
    int rows = 1;
    for (int i = 0; i < phase; ++i) rows += awaits_next(i);
    return rows * SCALE;
}

constexpr int HANDED = place_of(SCALE);  // floats of a pixel in each plane
constexpr int HANDED_BYTES = PLANES * HANDED * WIDTH * 4;
static_assert(
    1024 + Ring::BYTES + GROUPS * (STAGE_BYTES + HANDED_BYTES) + Ring::BARRIER_BYTES <= SHARED_BYTES, "it fits");

// Where a thread's pixel is, and what it may write.
struct Place {
    int x, y;
    bool is_first, is_last;  // of the picture's columns
    bool is_below_top, is_above_end;
    bool writes, completes;  // results of this row, and those of the row above that await it
    bool is_handed;          // something, by the row above
};

struct StoreResized {
    Planes picture, target;
    const Work& work;
    Stage through;
    int height, width;
    u32 handed;  // shared memory: HANDED_BYTES of each group

    __device__ void operator()(const float (&sums)[SUMS], const Unit& unit, u32 stage) const {
        const int pixel = threadIdx.x % WARPGROUP, x = unit.x() + pixel, y = unit.y(work);
        const int before = unit.before(work), group = through.group;
        const bool has_results = pixel >= HALO && pixel < WIDTH - HALO && x < width;
        const bool is_handed = unit.number > work.first, hands_on = unit.number + 1 < work.last;
        float skips[PLANES][SCALE];
        resample_picture(x, y, has_results, skips);
        through.put(sums, stage);
        if (is_handed) block_wait(ROW_OF_GROUP + 1 - group, MULTIPLYING);
        if (has_results) {
            const Place place = {x, y, x == 0, x + 1 == width, y > 0, y < height,
                                 before > 0 && unit.from_here(work) > 1, before > 1, is_handed};
            if (SCALE % 2 == 0 && are_whole<SCALE>(target))
                resample<true>(stage + pixel * 4, place, skips);
            else
                resample<false>(stage + pixel * 4, place, skips);
        }
        if (hands_on) block_arrive(ROW_OF_GROUP + group, MULTIPLYING);
    }

    // Across; all rows of a pixel's samples have the same.
    __device__ void resample_picture(int x, int y, bool is_there, float (&out)[PLANES][SCALE]) const {
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane) {
            float pixels[PICTURE_SPAN];
            const u16* const row =
                picture.samples + plane * picture.plane + (long long)min(max(y, 0), height - 1) * width;
#pragma unroll
            for (int k = 0; k < PICTURE_SPAN; ++k)
                pixels[k] = SKIP && is_there ? read_sample(row + min(max(x + PICTURE_FIRST + k, 0), width - 1)) : 0;
#pragma unroll
            for (int s = 0; s < SCALE; ++s) {
                out[plane][s] = 0;
#pragma unroll
                for (int k = 0; k < PICTURE_SPAN; ++k)
                    out[plane][s] = fmaf(PICTURE_TAPS[s][k], pixels[k], out[plane][s]);
            }
        }
    }

    template <bool IS_WHOLE>
    __device__ void resample(u32 stage, const Place& place, const float (&skips)[PLANES][SCALE]) const {
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane) {
            float across[FACTOR][SCALE];
            resample_across(stage + plane * SAMPLES * STAGE_PITCH * 4, place, skips[plane], across);
            resample_down<IS_WHOLE>(plane, place, across);
        }
    }

    __device__ void resample_across(
        u32 samples, const Place& place, const float (&skips)[SCALE], float (&out)[FACTOR][SCALE]) const {
        constexpr int LAST = (FACTOR - 1) * STAGE_PITCH * 4;
        const int to_left = place.is_first ? 0 : LAST - 4, to_right = place.is_last ? LAST : 4;
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

    template <bool IS_WHOLE>
    __device__ void resample_down(int plane, const Place& place, const float (&across)[FACTOR][SCALE]) const {
        const u32 own = handed + (plane * HANDED * WIDTH + threadIdx.x % WARPGROUP) * 4;
        const u32 from = own + (1 - through.group) * HANDED_BYTES, to = own + through.group * HANDED_BYTES;
        float above[SCALE], below[SCALE];  // of this row, and of the one above it
#pragma unroll
        for (int s = 0; s < SCALE; ++s) {
            const float last = place.is_handed ? read_shared(from + s * WIDTH * 4) : 0;
            above[s] = place.is_below_top ? last : across[0][s];
            below[s] = place.is_above_end ? across[0][s] : last;
            write_shared(to + s * WIDTH * 4, across[FACTOR - 1][s]);
        }
        u16* row = target.samples + plane * target.plane
            + ((long long)(place.y - 1) * SCALE * width + place.x) * SCALE;
        const long long to_next = (long long)SCALE * width;
#pragma unroll
        for (int phase = 0; phase < SCALE; ++phase, row += to_next) {
            if (awaits_next(phase) && place.completes) {
                float values[SCALE];
#pragma unroll
                for (int s = 0; s < SCALE; ++s)
                    values[s] = fmaf(tap(phase, FACTOR), below[s], read_shared(from + (place_of(phase) + s) * WIDTH * 4));
                write<IS_WHOLE>(row, values);
            }
        }
#pragma unroll
        for (int phase = 0; phase < SCALE; ++phase, row += to_next) {
            float values[SCALE];
#pragma unroll
            for (int s = 0; s < SCALE; ++s) {
                values[s] = tap(phase, -1) != 0 ? tap(phase, -1) * above[s] : 0;
#pragma unroll
                for (int i = 0; i < FACTOR; ++i)
                    if (tap(phase, i) != 0) values[s] = fmaf(tap(phase, i), across[i][s], values[s]);
                if (awaits_next(phase)) write_shared(to + (place_of(phase) + s) * WIDTH * 4, values[s]);
            }
            if (!awaits_next(phase) && place.writes) write<IS_WHOLE>(row, values);
        }
    }

    template <bool IS_WHOLE>
    __device__ static void write(u16* row, float (&values)[SCALE]) {
#pragma unroll
        for (int s = 0; s < SCALE; ++s) values[s] = CLIP ? __saturatef(values[s]) : values[s];
        write_samples<IS_WHOLE>(row, values);
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, 1) KERNEL(
    const __grid_constant__ TensorMap input, const __grid_constant__ TensorMap weights,
    const float* __restrict__ bias, u16* picture, long long picture_plane, u16* target, long long target_plane,
    int height, int width, int first_row, int units_down, int strips) {
    const Work work(first_row, units_down, strips, blockIdx.x, gridDim.x);
    const u32 memory = aligned_memory(), stages = memory + Ring::BYTES, handed = stages + GROUPS * STAGE_BYTES;
    const Ring rings[1] = {{memory, handed + GROUPS * HANDED_BYTES}};
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
