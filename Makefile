# cubby: a key-value store you mount. `make help` lists the targets.

VERSION := 0.1.0
BUILD   ?= build/default
PREFIX  ?= /usr/local
DESTDIR ?=

CC       ?= cc
CPPFLAGS += -D_GNU_SOURCE -DCUBBY_VERSION='"$(VERSION)"' -DFUSE_USE_VERSION=314 -Istore -I$(BUILD)
CFLAGS   ?= -O2 -g
WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wmissing-prototypes \
            -Wstrict-prototypes -Wwrite-strings -Wvla $(if $(WERROR),-Werror)
SANITIZE ?=

STORE_PKGS := libxxhash
FS_PKGS    := fuse3
TEST_PKGS  := cmocka

pkg_cflags = $(shell pkg-config --cflags $(1))
pkg_libs   = $(shell pkg-config --libs $(1))

ALL_CFLAGS  = -std=gnu17 $(CFLAGS) $(WARNINGS) $(SANITIZE) -pthread -MMD -MP
ALL_LDFLAGS = $(LDFLAGS) $(SANITIZE) -pthread

STORE_SRC := $(wildcard store/*.c)
FS_SRC    := $(wildcard fs/*.c)
SIM_SRC   := $(wildcard tests/sim/*.c)
UNIT_SRC  := $(wildcard tests/unit/test_*.c)
CRASH_SRC := $(wildcard tests/crash/test_*.c)
MOUNT_SRC := $(wildcard tests/mount/test_*.c)

objects = $(patsubst %.c,$(BUILD)/%.o,$(1))
STORE_LIB := $(BUILD)/libstore.a
SIM_LIB   := $(BUILD)/libsim.a
CUBBY     := $(BUILD)/cubby
UNIT_BIN  := $(patsubst %.c,$(BUILD)/%,$(UNIT_SRC))
CRASH_BIN := $(patsubst %.c,$(BUILD)/%,$(CRASH_SRC))
MOUNT_BIN := $(patsubst %.c,$(BUILD)/%,$(MOUNT_SRC))

.PHONY: all
all: $(CUBBY)			## build build/default/cubby

$(BUILD)/store/%.o: store/%.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(ALL_CFLAGS) $(call pkg_cflags,$(STORE_PKGS)) -c $< -o $@

$(BUILD)/fs/%.o: fs/%.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(ALL_CFLAGS) $(call pkg_cflags,$(FS_PKGS)) -c $< -o $@

$(BUILD)/tests/%.o: tests/%.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -Itests $(ALL_CFLAGS) $(call pkg_cflags,$(TEST_PKGS)) -c $< -o $@

$(STORE_LIB): $(call objects,$(STORE_SRC))
	rm -f $@
	$(AR) rcs $@ $^

$(SIM_LIB): $(call objects,$(SIM_SRC))
	rm -f $@
	$(AR) rcs $@ $^

$(CUBBY): $(call objects,$(FS_SRC)) $(STORE_LIB)
	$(CC) $(ALL_CFLAGS) $^ $(ALL_LDFLAGS) $(call pkg_libs,$(FS_PKGS) $(STORE_PKGS)) -o $@

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(SIM_LIB) $(STORE_LIB)
	$(CC) $(ALL_CFLAGS) $^ $(ALL_LDFLAGS) $(call pkg_libs,$(TEST_PKGS) $(STORE_PKGS)) -o $@

.PHONY: unit
unit: $(UNIT_BIN)		## build and run the unit tests
	@set -e; for t in $(UNIT_BIN); do echo "# $$t"; $$t; done

.PHONY: clean
clean:				## remove everything built
	rm -rf build

.PHONY: help
help:				## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
.SECONDARY:
