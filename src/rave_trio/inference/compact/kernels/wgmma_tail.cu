// The tail: its samples become a planar picture, with the picture itself added, enlarged by nearest neighbour, and clipped,
// where that is asked for.
//
// Before this text, beside what wgmma_samples.cuh wants: SKIP, CLIP, SHARED_BYTES that a block has.

static_assert(1024 + Ring::BYTES + GROUPS * STAGE_BYTES + Ring::BARRIER_BYTES <= SHARED_BYTES, "it fits");

struct StorePicture {
    Planes picture, target;
    const Work& work;
    Stage through;
    int width;
    u16 skips[PLANES];

    // Reads the picture before the products, behind which reading hides.
    __device__ void read_ahead(const Unit& unit) {
        const int x = unit.x() + threadIdx.x % WARPGROUP, y = unit.y(work);
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane)
            skips[plane] = SKIP && x < width ? picture.samples[plane * picture.plane + (long long)y * width + x] : 0;
    }

    __device__ void operator()(const float (&sums)[SUMS], const Unit& unit, u32 stage) const {
        const int pixel = threadIdx.x % WARPGROUP, x = unit.x() + pixel, y = unit.y(work);
        through.put(sums, stage);
        if (x >= width) return;
        if (are_whole<FACTOR>(target))
            write_pixel<true>(stage + pixel * 4, x, y);
        else
            write_pixel<false>(stage + pixel * 4, x, y);
    }

    template <bool IS_WHOLE>
    __device__ void write_pixel(u32 stage, int x, int y) const {
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane) {
            const float skip = SKIP ? read_sample(skips + plane) : 0;
            u16* row = target.samples + plane * target.plane + ((long long)y * FACTOR * width + x) * FACTOR;
#pragma unroll
            for (int i = 0; i < FACTOR; ++i, row += width * FACTOR) {
                float values[FACTOR];
#pragma unroll
                for (int j = 0; j < FACTOR; ++j) {
                    float sum = read_shared(stage + (plane * SAMPLES + i * FACTOR + j) * STAGE_PITCH * 4);
                    if (SKIP) sum += skip;
                    values[j] = CLIP ? __saturatef(sum) : sum;
                }
                write_samples<IS_WHOLE>(row, values);
            }
        }
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, 1) KERNEL(
    const __grid_constant__ TensorMap input, const __grid_constant__ TensorMap weights,
    const float* __restrict__ bias, const float* __restrict__ scale, u16* picture, long long picture_plane,
    u16* target, long long target_plane, int width, int first_row, int units_down, int strips) {
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
        StorePicture finish{{picture, picture_plane}, {target, target_plane}, work, {scale, bias, group}, width};
        work_through(work, rings[0], group, stages + group * STAGE_BYTES, products, finish);
    }
}
