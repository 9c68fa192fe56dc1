#include "shm_child.h"

struct shm_objects shm_objects;
