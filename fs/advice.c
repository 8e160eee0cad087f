#include "fs/advice.h"

/*
 * A name costs 4 us with attributes, and a LOOKUP 26: at 64 the look-ups that are still needed take well
 * below a tenth of what they save.  A few files that happened to be opened after a listing are not
 * enough.  The most is what programs read ahead of their first look-up (fts of the C library: 100,000
 * names); had in vain, it costs half a second, once.
 */
#define NAMES_A_LOOKUP 64u
#define ENOUGH         256u
#define MOST           (1u << 17)

bool
firn_advice_wants_attributes(FirnAdvice *advice, uint64_t ino)
{
	if (atomic_load_explicit(&advice->earned, memory_order_relaxed) >= ENOUGH)
		return true;
	atomic_store_explicit(&advice->listed, ino, memory_order_relaxed);
	return false;
}

void
firn_advice_told(FirnAdvice *advice, size_t n)
{
	uint32_t earned = atomic_load_explicit(&advice->earned, memory_order_relaxed);

	atomic_store_explicit(&advice->earned, n < earned ? earned - (uint32_t)n : 0,
			      memory_order_relaxed);
}

void
firn_advice_looked_up(FirnAdvice *advice, uint64_t parent, mode_t mode)
{
	uint32_t earned;

	/* Whoever goes down a tree looks up directories, wanting names only or not. */
	if (S_ISDIR(mode) || parent != atomic_load_explicit(&advice->listed, memory_order_relaxed))
		return;
	earned = atomic_load_explicit(&advice->earned, memory_order_relaxed);
	if (earned < MOST)
		atomic_store_explicit(&advice->earned, earned + NAMES_A_LOOKUP,
				      memory_order_relaxed);
}
