/* Children that wait and wake at gates. */
#ifndef SHAREDC_GATE_H
#define SHAREDC_GATE_H

#include "../../../shared/csrc/gate.h"

/* Two gates, each with what its waiters wait for. GatePair in sharedc.go is the same. */
struct gate_pair {
	struct shm_gate request;
	uint32_t asked, rounds;
	struct shm_gate reply;
	uint32_t answered;
};

/* Answers each request, rounds times. Returns 0, or 1 after a minute without a request. */
int gate_answer(void *addr, size_t length);

/*
 * A hostile child: writes as much as it can to each of its descriptors above 2, and
 * has them block. Then it rings the bell all the time, until the uint32_t at addr is
 * not 0.
 */
int gate_misuse(void *addr, size_t length);

#endif
