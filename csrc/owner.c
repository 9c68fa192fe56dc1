#include "owner.h"
#include "identity.h"

static struct {
	uint64_t token; /* of the process that was given the owner: its own children have copies */
	uint32_t owner;
} given;

void shm_set_owner(uint32_t owner)
{
	given.token = shm_process_token();
	given.owner = owner;
}

uint32_t shm_given_owner(void)
{
	return given.token == shm_process_token() ? given.owner : 0;
}
