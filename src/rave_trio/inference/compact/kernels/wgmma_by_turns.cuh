// Both warpgroups have all weights, and take every other unit of the block's.

// `finish(sums, unit, stage)` does with the sums what is to be done with them; `stage` is shared memory of the warpgroup's
// own, free when it is called.  `finish.read_ahead(unit)` reads what it will need, before there are any sums.
template <class Finish>
__device__ inline void work_through(
    const Work& work, const Ring& ring, int group, u32 stage, const Weights& weights, Finish& finish) {
    static_assert(SLOTS >= 2 * (1 + MARGIN), "nobody waits for ever, with a strip's end between two units");
    Unit unit(work);
    if (group == 1) unit.advance(work);
    release(ring, 0, unit, work);
    bool there = false;
    Inputs inputs;
    inputs.find(ring, unit);
    while (unit.number < work.last) {
        finish.read_ahead(unit);
        if (!there) wait_for(ring, unit);
        if (unit.number > work.first) block_wait(TURN_OF_GROUP + group, MULTIPLYING);
        float sums[SUMS];
        convolve(sums, weights, inputs, unit.number + 1 < work.last ? 1 - group : -1);
        if (is_steward()) stores_read();
        block_wait(OF_GROUP + group, WARPGROUP);
        const Unit done = unit;
        for (int i = 0; i < GROUPS; ++i) unit.advance(work);
        release(ring, done.slot, unit, work);
        there = unit.number < work.last && have_come(ring, unit);  // asked now, the answer comes while there is else to do
        inputs.find(ring, unit);
        finish(sums, done, stage);
    }
    if (is_steward()) stores_done();
}
