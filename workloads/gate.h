/* Where threads wait for the main thread, also those in other processes. The main thread never waits for them alone: a
 * process that is killed would keep it for ever. */
#ifndef NUMABENCH_GATE_H
#define NUMABENCH_GATE_H

#include <stdatomic.h>
#include <stdint.h>

/* What the main thread has said, in this order. */
enum stage { STAGE_BEGUN, STAGE_TOUCHED, STAGE_GO, STAGE_END };

/* In memory that all of its threads share. */
struct gate {
    _Atomic uint32_t stage;
    _Atomic unsigned missing; /* threads that have not arrived */
    int arrived_fd;           /* an eventfd, readable once all have */
};

void gate_init(struct gate *gate, unsigned threads);
/* By each thread, once. */
void gate_arrive(struct gate *gate);
/* Lets everyone go on that waits for this stage or for one before it. */
void gate_open(struct gate *gate, enum stage stage);
void gate_await(struct gate *gate, enum stage stage);

#endif
