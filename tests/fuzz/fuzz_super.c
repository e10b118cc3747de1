/* Superblocks. */
#include "fuzz.h"

#include "page.h"
#include "sum.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t unit[UNIT], again[UNIT];
	struct super super, same;
	uint32_t version;

	take(&data, &size, unit, UNIT);
	if (!(unit[SUPER_RESERVED] & 1)) {
		memcpy(unit + SUPER_MAGIC, SUPER_MAGIC_TEXT, 8);
		put32(unit + SUPER_VERSION, FORMAT_VERSION);
		put32(unit + SUPER_UNIT, UNIT);
		put64(unit + SUPER_SUM, sum64(unit, SUPER_SUM));
	}
	if (super_decode(unit, &super, &version) != 0)
		return 0;
	CHECK(super.root.length == 0 || ref_plausible(&super.root, super.units));
	CHECK(super.space.length == 0 || ref_plausible(&super.space, super.units));
	super_encode(&super, again);
	CHECK(super_decode(again, &same, &version) == 0);
	CHECK(memcmp(again, unit, SUPER_RESERVED) == 0);
	return 0;
}
