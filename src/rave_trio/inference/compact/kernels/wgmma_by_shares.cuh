// Each warpgroup has the weights of its share of the input channels, and a ring of its own.  The first computes its part
// of a unit's sums and hands them over to the second, which adds its own while the first is at the next unit.

constexpr int HAND_OVER_BYTES = SUMS * WARPGROUP * 4;

// Four of a thread's sums lie WARPGROUP threads apart from its next four.
__device__ inline u32 handed_over(u32 memory, int four) {
    return memory + (four * WARPGROUP + threadIdx.x % WARPGROUP) * 16;
}

// `finish` and `stage`: as in work_through, for the second warpgroup; nothing is read ahead.
template <class Finish>
__device__ inline void work_through_shares(
    const Work& work, const Ring& ring, int group, u32 hand_over, u32 stage, const Weights& weights,
    const Finish& finish) {
    static_assert(SLOTS > 1 + MARGIN, "nobody waits for ever, and a box is on its way");
    Unit unit(work);
    while (unit.number < work.last) {
        const bool is_first = unit.number == work.first, is_last = unit.number + 1 == work.last;
        Inputs inputs;
        inputs.find(ring, unit);
        wait_for(ring, unit);
        if (group == 1 || !is_first) block_wait(TURN_OF_GROUP + group, MULTIPLYING);
        float sums[SUMS];
        convolve(sums, weights, inputs, group == 0 ? 1 : is_last ? -1 : 0);
        if (is_steward()) stores_read();
        block_wait(OF_GROUP + group, WARPGROUP);
        const Unit done = unit;
        unit.advance(work);
        release(ring, done.slot, unit, work);
        if (group == 0) {
            if (!is_first) block_wait(TAKEN_OVER, MULTIPLYING);
#pragma unroll
            for (int i = 0; i < SUMS; i += 4)
                asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(handed_over(hand_over, i / 4)),
                             "f"(sums[i]), "f"(sums[i + 1]), "f"(sums[i + 2]), "f"(sums[i + 3])
                             : "memory");
            block_arrive(HANDED_OVER, MULTIPLYING);
        } else {
            block_wait(HANDED_OVER, MULTIPLYING);
#pragma unroll
            for (int i = 0; i < SUMS; i += 4) {
                float part[4];
                asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                             : "=f"(part[0]), "=f"(part[1]), "=f"(part[2]), "=f"(part[3])
                             : "r"(handed_over(hand_over, i / 4))
                             : "memory");
#pragma unroll
                for (int j = 0; j < 4; ++j) sums[i + j] += part[j];
            }
            if (!is_last) block_arrive(TAKEN_OVER, MULTIPLYING);
            finish(sums, done, stage);
        }
    }
    if (is_steward()) stores_done();
}
