/*
 * The ring of Maglev hashing (NSDI 2016, section 3.4) for servers of like weight.
 * survival/maglev.py calls it; it touches no memory but its arguments, and needs no library.
 */
#include <stdint.h>

/*
 * Servers in turn order, each with the place where its walk stands and its step, 1 .. slots - 1;
 * `slots` is prime, and the ring is all 0: free.
 */
void build_ring(uint16_t *ring, uint32_t slots, const uint16_t *servers, uint32_t *at,
		const uint32_t *steps, uint32_t count)
{
	for (uint32_t free = slots;;) {
		for (uint32_t turn = 0; turn < count; turn++) {
			while (ring[at[turn]]) {
				at[turn] += steps[turn];
				if (at[turn] >= slots)
					at[turn] -= slots;
			}
			ring[at[turn]] = servers[turn];
			if (!--free)
				return;
		}
	}
}
