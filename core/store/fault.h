#ifndef FIRN_CORE_STORE_FAULT_H
#define FIRN_CORE_STORE_FAULT_H

#include "core/store/store.h"

/*
 * A store in front of another one that counts calls and fails chosen ones: how
 * tests reach every error path.  Takes ownership of `inner`.
 */
FirnStore *firn_fault_new(FirnStore *inner);
/* Calls made so far, all operations. */
uint64_t firn_fault_calls(FirnStore *store);
/* Fail call number `at` (0 = the next), and `count` - 1 calls after it, with `errnum`. */
void firn_fault_arm(FirnStore *store, uint64_t at, uint64_t count, int errnum);

#endif
