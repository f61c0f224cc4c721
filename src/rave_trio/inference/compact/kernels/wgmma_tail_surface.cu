// The tail that ends in a surface: its samples, the picture added and clipped where that is asked for, become codes of luma
// and of chroma.  They are rounded to fp16 on the way, so that the codes are those of a picture that was written and
// converted.
//
// A thread makes the codes of its pixel's FACTOR x FACTOR samples.  Chroma that lies with the leftmost of its columns looks
// at samples of the pixel to the left: with an OVERLAP a strip's first pixel is there for them alone.
//
// Before this text, beside what wgmma_samples.cuh wants: SKIP, CLIP, SHARED_BYTES that a block has, and in the namespace
// `codes` what makes codes of FACTOR x FACTOR samples a thread.

static_assert(1024 + Ring::BYTES + GROUPS * STAGE_BYTES + Ring::BARRIER_BYTES <= SHARED_BYTES, "it fits");
static_assert(codes::PIXELS == FACTOR && codes::LINES == FACTOR, "a thread has the samples of a pixel");
static_assert(codes::FIRST_LINE == 0 && codes::END_LINE == FACTOR && codes::AFTER == 0, "and none beyond it");
static_assert(codes::BEFORE <= FACTOR && (codes::BEFORE == 0) == (OVERLAP == 0), "but for those to the left");

using Surface = codes::Planes<codes::Sample>;

// As output is stored, and read again.
__device__ inline float rounded(float value) {
    const u16 half = (u16)two_halves(CLIP ? __saturatef(value) : value, 0);
    return read_sample(&half);
}

struct StoreCodes {
    Planes picture;
    Surface surface;
    const Work& work;
    Stage through;
    int width;
    int top;  // of all rows of pixels in the surface
    bool is_aligned = codes::rows_aligned(surface);
    u16 own[PLANES], before[PLANES];  // of the picture: the pixel, and the one to the left

    // Reads them before the products, behind which reading hides.
    __device__ void read_ahead(const Unit& unit) {
        const int pixel = threadIdx.x % WARPGROUP, x = unit.x() + pixel, y = unit.y(work);
        if (!SKIP || pixel < OVERLAP || x >= width) return;
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane) {
            const u16* const sample = picture.samples + plane * picture.plane + (long long)y * width + x;
            own[plane] = *sample;
            if (OVERLAP > 0) before[plane] = *(sample - (x > 0));
        }
    }

    __device__ void operator()(const float (&sums)[SUMS], const Unit& unit, u32 stage) const {
        const int pixel = threadIdx.x % WARPGROUP, x = unit.x() + pixel, y = unit.y(work);
        through.put(sums, stage);
        if (pixel < OVERLAP || x >= width) return;
        if (is_aligned)
            write<true>(stage + pixel * 4, x, top + y);
        else
            write<false>(stage + pixel * 4, x, top + y);
    }

    template <bool IS_ALIGNED>
    __device__ void write(u32 samples, int x, int y) const {
        codes::Chroma chroma;
#pragma unroll
        for (int line = 0; line < FACTOR; ++line) {
            float colours[PLANES][codes::COLUMNS], luma[codes::COLUMNS];
#pragma unroll
            for (int plane = 0; plane < PLANES; ++plane) {
                const u32 row = samples + (plane * SAMPLES + line * FACTOR) * STAGE_PITCH * 4;
#pragma unroll
                for (int column = 0; column < codes::COLUMNS; ++column) {
                    const int at = column - codes::BEFORE;
                    float sum = read_shared(at < 0 ? before_row(row, x, at) : row + at * STAGE_PITCH * 4);
                    if (SKIP) sum += read_sample(at < 0 ? before + plane : own + plane);
                    colours[plane][column] = rounded(sum);
                }
            }
            codes::sane_luma_of(colours[0], colours[1], colours[2], luma);
            codes::write_luma<IS_ALIGNED>(surface, luma, x * FACTOR, width * FACTOR, y * FACTOR + line);
            chroma.add(colours[0], colours[1], colours[2], luma, line);
        }
#pragma unroll
        for (int group = 0; group < codes::GROUPS; ++group) {
            const int row = y * codes::GROUPS + group;
            chroma.write<IS_ALIGNED>(surface, group, x * codes::ACROSS, width * codes::ACROSS, row);
        }
    }

    // Where the sample `at`, below 0, of a row lies; beyond the picture's edge the outermost repeats.
    __device__ u32 before_row(u32 row, int x, int at) const {
        return x > 0 ? row + (FACTOR + at) * STAGE_PITCH * 4 - 4 : row;
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, 1) KERNEL(
    const __grid_constant__ TensorMap input, const __grid_constant__ TensorMap weights,
    const float* __restrict__ bias, const float* __restrict__ scale, u16* picture, long long picture_plane,
    codes::Sample* plane0, codes::Sample* plane1, codes::Sample* plane2, long long pitch0, long long pitch1,
    long long pitch2, int width, int top, int first_row, int units_down, int strips) {
    const Work work(first_row, units_down, strips, blockIdx.x, gridDim.x);
    const u32 memory = aligned_memory(), stages = memory + Ring::BYTES;
    const Ring rings[1] = {{memory, stages + GROUPS * STAGE_BYTES}};
    const int group = group_of_thread();
    begin(rings, GROUPS, input, weights);
    if (group == GROUPS) {
        give_up_registers<FETCHING_REGISTERS>();
        fetch(work, rings, &input, &weights, 0);
    } else {
        take_registers<MULTIPLYING_REGISTERS>();
        Weights products;
        load_weights(products, rings[0], group, product_row);
        const Surface surface{{plane0, plane1, plane2}, {pitch0, pitch1, pitch2}};
        StoreCodes finish{{picture, picture_plane}, surface, work, {scale, bias, group}, width, top};
        work_through(work, rings[0], group, stages + group * STAGE_BYTES, products, finish);
    }
}
