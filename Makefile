# Postern. `make` builds, `make run` shows it at work, `make test` runs every test,
# `make bench` measures, `make chaos` breaks everything at once, `make machines` three machines that share a queue,
# `make sim` plays a hundred in virtual time, `make lint` checks format and structure. FLAVOUR=debug|release|asan|tsan.

FLAVOUR ?= release
# V=1 shows whole commands
Q := $(if $(V),,@)
B := build/$(FLAVOUR)
CC ?= gcc
PKGS := libevent libevent_openssl sqlite3 libcurl lmdb libcjson libconfuse openssl zlib libsystemd libseccomp libzstd
# GLib's headers do not pass our warnings: they are the system's.
PKG_GMIME := gmime-3.0
# msgpack-c's pkg-config name changed between versions; Debian 12 calls it msgpack.
PKG_MSGPACK := $(shell pkg-config --exists msgpack 2>/dev/null && echo msgpack || echo msgpack-c)

# ---- sources, one list per folder; what is not listed is not built ----
base_SRC := arena buf clock config config_keys digest err json log mem nearest network pack redact repeats seal slice sweep tls
shm_SRC := bell child gauges histogram last_words notice record ring started
mail_SRC := address client_info csv date event event_json event_pack filter form handlebars html_text message mime mime_clean mime_read multipart own_event \
             page_token part render replication resend send_request ses_address ses_bulk ses_compile ses_event ses_headers ses_mime ses_parts ses_raw ses_simple \
             ses_size sql_dump stored_template submission variables webhook
aws_SRC := credential_chain credential_document credential_process credentials endpoint error fetch http profiles query ses session sign sns sqs vault \
             xml
setup_SRC := conf_edit conf_plan difference dns inspect make plan plumbing policy policy_verdict template
doctor_SRC := doctor finding judge key_findings live patient probe redrive
store_SRC := as_json backup batch_write batches buffer changes check check_events control_client counters deadletters elsewhere event_lists event_models events events_read \
             feed gates import joining key key_changes key_seals keys list_changes logins migrate own_events reputation store suppressions taken templates totals versions webhooks
writer_SRC := control holds outcomes parts replicas retention run_heap runs scheduler steering writer
httpd_SRC := analytics analytics_metrics auth batch_report body change client cookie dashboard dashboard_actions dashboard_live dashboard_mail \
             dashboard_people dashboard_reads dashboard_webhooks domains envelopes event_pages events exposition health httpd inbox logs logs_request messages metrics metrics_request \
             reply route send server stats stored_messages strangers suppressions suppressions_add suppressions_adding suppressions_list tags_change \
             templates usage web_files webhooks
sender_SRC := compiled cuts lifter outbox rate sender
poller_SRC := buffer_again buffer_in buffer_out changes_out depth poller queue signatures
keeper_SRC := keeper
logger_SRC := logger pump
courier_SRC := courier post public_address
cli_SRC := backup batches check cli deadletters doctor domains events flags import import_dump import_sink import_sqlite key login login_list \
             options page progress redrive request setup status webhooks
sandbox_SRC := cloud_events cloud_iam cloud_identities cloud_notary cloud_publish cloud_query cloud_ses cloud_sets \
               cloud_sign cloud_sns cloud_sqs sandbox
master_SRC := confine handover listen main master notify obituary outlet reload supervise title usage

FOLDERS := base shm mail aws setup store doctor httpd sender poller keeper courier logger cli sandbox master
store_SRC += $(writer_SRC)

# ---- tests: tests/unit/<folder>/test_<name>.c ----
UNIT := $(sort $(wildcard tests/unit/*/test_*.c))
FUZZ := $(sort $(wildcard tests/fuzz/fuzz_*.c))

# which folders a folder's unit tests link with (itself and those below)
LINK_base := base
LINK_shm := shm base
LINK_mail := mail base
LINK_aws := aws shm base
LINK_setup := setup aws shm base
LINK_store := store mail shm base
LINK_httpd := httpd store mail shm base
LINK_sender := sender aws store mail shm base
LINK_poller := poller aws store mail shm base
LINK_keeper := keeper aws shm base
LINK_courier := courier store mail shm base
LINK_logger := logger shm base
LINK_doctor := doctor setup aws store mail shm base
LINK_cli := cli doctor setup aws store mail shm base
LINK_sandbox := sandbox setup aws mail shm base
LINK_sim := poller sender aws store mail shm base
LINK_master := master cli doctor setup sandbox httpd sender poller keeper courier logger store aws mail shm base

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wcast-qual \
        -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Wundef -Werror
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) $(PKG_MSGPACK) 2>/dev/null) \
              $(patsubst -I%,-isystem %,$(shell pkg-config --cflags $(PKG_GMIME) 2>/dev/null))
CPPFLAGS += -I. -D_GNU_SOURCE $(PKG_CFLAGS)
CFLAGS_debug := -O0 -g3
# frame pointers: shm/last_words.c
CFLAGS_release := -O2 -g -fno-omit-frame-pointer -D_FORTIFY_SOURCE=2 -fstack-protector-strong
CFLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CFLAGS_tsan := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
# clang; its fuzzing engine is linked into the targets only. gcc's warnings are the ones that count. FUZZ_O=-O1 for long
# runs: they go further in the same time, and take three times as long to compile.
FUZZ_O ?= -O0
LDFLAGS_fuzz := -fuse-ld=lld
CFLAGS_fuzz := $(FUZZ_O) -gline-tables-only -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all -fno-omit-frame-pointer -Wno-error
# the same from every directory: no path of this one in the binary
CFLAGS += -std=c11 $(WARN) $(CFLAGS_$(FLAVOUR)) -ffile-prefix-map=$(CURDIR)=.
LDFLAGS += $(filter -fsanitize=%,$(CFLAGS_$(FLAVOUR))) $(LDFLAGS_$(FLAVOUR))
LDLIBS := $(shell pkg-config --libs $(PKGS) $(PKG_MSGPACK) $(PKG_GMIME) 2>/dev/null) -lm -lpthread

objects = $(patsubst %.c,$(B)/%.o,$(wildcard $(addprefix $(1)/,$(addsuffix .c,$($(1)_SRC)))))
archives = $(foreach f,$(1),$(B)/lib$(f).a)

# ---- what this is: the version stands in master/main.c, the commit is git's, or the file COMMIT's where sources were packed ----
VERSION := $(shell sed -n 's/^.define POSTERN_VERSION "\(.*\)"/\1/p' master/main.c)
COMMIT := $(shell cat COMMIT 2>/dev/null || git describe --always --exclude '*' --abbrev=12 --dirty=+ 2>/dev/null || echo unknown)

.PHONY: all say-version say-commit
all: build/postern
say-version:
	@echo '$(VERSION)'
say-commit:
	@echo '$(COMMIT)'

build/postern: build/release/postern
	@cp -f $< $@
build/release/postern: FLAVOUR := release

$(B)/postern: $(call archives,$(LINK_master))
	$(Q)echo "  link  $@" && $(CC) $(LDFLAGS) -o $@ $(call objects,master) -Wl,--start-group $(call archives,$(filter-out master,$(LINK_master))) -Wl,--end-group $(LDLIBS)

# ---- for other machines: what rarely stands on one is linked in. Not OpenSSL, curl, GLib and GMime, zlib, seccomp: their
# security updates are the distribution's. libsystemd and cJSON come without archives. ----
LINKED_IN := event_openssl event lmdb confuse msgpackc
DIST_LIBS := $(foreach l,$(LDLIBS),$(if $(filter $(LINKED_IN:%=-l%),$(l)),-l:lib$(l:-l%=%).a,$(l)))
build/dist/postern: build/release/postern
	@mkdir -p $(@D)
	$(Q)echo "  link  $@" && $(CC) $(LDFLAGS) -o $@ $(call objects,master) -Wl,--start-group $(call archives,$(filter-out master,$(LINK_master))) -Wl,--end-group $(DIST_LIBS)
build/dist/postern: FLAVOUR := release

.PHONY: always
build/commit: always
	@mkdir -p $(@D)
	@echo '$(COMMIT)' | cmp -s - $@ || echo '$(COMMIT)' >$@
$(B)/master/main.o: CPPFLAGS += -DPOSTERN_COMMIT='"$(COMMIT)"'
$(B)/master/main.o: build/commit

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(Q)echo "  cc    $@" && $(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(B)/httpd/web_files.o: $(wildcard web/*)

define archive_rule
$(B)/lib$(1).a: $(call objects,$(1))
	@rm -f $$@
	@ar rcs $$@ $$^
endef
$(foreach f,$(FOLDERS),$(eval $(call archive_rule,$(f))))

# ---- unit tests ----
define unit_rule
$(B)/$(basename $(1)): $(1) $(call archives,$(LINK_$(notdir $(patsubst %/,%,$(dir $(1))))))
	@mkdir -p $$(@D)
	$(Q)echo "  test  $$@" && $(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP $(LDFLAGS) -o $$@ $$< -Wl,--start-group $(call archives,$(LINK_$(notdir $(patsubst %/,%,$(dir $(1)))))) -Wl,--end-group $(LDLIBS) -lcmocka
endef
$(foreach t,$(UNIT),$(eval $(call unit_rule,$(t))))

.PHONY: unit
unit: $(addprefix $(B)/,$(basename $(UNIT)))

# ---- fuzz targets: FLAVOUR=fuzz ----
FUZZ_FOLDERS := httpd sender aws store mail shm base
$(B)/tests/fuzz/%: tests/fuzz/%.c $(B)/tests/fuzz/found.o $(call archives,$(FUZZ_FOLDERS))
	@mkdir -p $(@D)
	$(Q)echo "  fuzz  $@" && $(CC) $(CPPFLAGS) $(CFLAGS) -fsanitize=fuzzer -MMD -MP $(LDFLAGS) -o $@ $< $(B)/tests/fuzz/found.o \
	    -Wl,--start-group $(call archives,$(FUZZ_FOLDERS)) -Wl,--end-group $(LDLIBS)

.SECONDARY: $(B)/tests/fuzz/found.o
.PHONY: fuzz
fuzz: $(addprefix $(B)/,$(basename $(FUZZ)))

# ---- benchmarks written in C ----
BENCH := $(sort $(wildcard tests/bench/bench_*.c))
$(B)/tests/bench/%: tests/bench/%.c $(call archives,$(FUZZ_FOLDERS))
	@mkdir -p $(@D)
	$(Q)echo "  bench $@" && $(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP $(LDFLAGS) -o $@ $< \
	    -Wl,--start-group $(call archives,$(FUZZ_FOLDERS)) -Wl,--end-group $(LDLIBS)

# ---- many machines in virtual time ----
$(B)/tests/sim/sim: tests/sim/sim.c tests/sim/fleet.c tests/sim/fifo.c tests/sim/agenda.c $(call archives,$(LINK_sim))
	@mkdir -p $(@D)
	$(Q)echo "  sim   $@" && $(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP $(LDFLAGS) -o $@ $(filter %.c,$^) \
	    -Wl,--start-group $(call archives,$(LINK_sim)) -Wl,--end-group $(LDLIBS)

# ---- what people type ----
# Set-up comes first and in a make of its own: the flags above ask pkg-config, which must be there.
.PHONY: run test test-ghost bench chaos machines sim lint clean deb test-deb dist container reproducible setup-build setup-test
setup-build:
	@scripts/setup.sh build
setup-test:
	@scripts/setup.sh test

run: setup-build
	@$(MAKE) --no-print-directory build/postern
	@RUN_ONCE=$(RUN_ONCE) scripts/demo.sh

test: setup-build setup-test
	@scripts/test.sh

# A real Ghost, installed under ~/.cache/postern at the first time: about twelve minutes, not part of test.
test-ghost: setup-build
	@scripts/ghost.sh

bench: setup-build setup-test
	@$(MAKE) --no-print-directory build/postern
	@scripts/bench.sh

# Everything breaks at once, for DURATION_S seconds: docs/operations.md. BUILD=release, asan or tsan.
BUILD ?= release
chaos: setup-build setup-test
	@$(MAKE) --no-print-directory FLAVOUR=$(BUILD) build/$(BUILD)/postern
	@POSTERN_BINARY=$(CURDIR)/build/$(BUILD)/postern $$(scripts/node.sh) tests/fault/chaos.mjs

# Three machines on one buffer queue, killed, frozen and cut off: RECIPIENTS, SEED, ROUNDS, RATE (docs/scaling.md).
machines: setup-build setup-test
	@$(MAKE) --no-print-directory build/postern
	@$$(scripts/node.sh) tests/fault/machines.mjs

# Up to a hundred machines and a hundred million recipients, in virtual time: about a minute.
sim: setup-build
	@$(MAKE) --no-print-directory build/release/tests/sim/sim
	@build/release/tests/sim/sim $(SEED)

lint:
	@scripts/lint.sh

# ---- packages: into build/ ----
deb:
	@scripts/setup.sh deb
	@scripts/deb.sh

# As root: a fresh Debian 12 under ~/.cache/postern, in which the package is installed, used, upgraded, removed and purged.
test-deb: deb
	@scripts/setup.sh test-deb
	@scripts/test_deb.sh

dist: setup-build
	@$(MAKE) --no-print-directory build/postern build/dist/postern man
	@scripts/dist.sh

# With podman, buildah or docker, whichever is there.
container:
	@scripts/container.sh

# Two builds in two directories: the same binary?
reproducible: setup-build
	@scripts/reproducible.sh

# ---- installation: DESTDIR, PREFIX; an existing proxy.conf is left as it is ----
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
CONFDIR ?= /etc/postern
DOCDIR ?= $(PREFIX)/share/doc/postern
MANDIR ?= $(PREFIX)/share/man
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
LOGROTATEDIR ?= /etc/logrotate.d
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
# zsh looks into vendor-completions for /usr (Debian), into site-functions for /usr/local
ZSHDIR ?= $(PREFIX)/share/zsh/$(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)

# ---- manuals: proxy.conf(5) comes from the table of settings ----
build/release/manual: FLAVOUR := release
build/release/manual: packaging/manual.c build/release/libbase.a
	$(Q)echo "  link  $@" && $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

MAN_DATE := $(shell if [ -n "$$SOURCE_DATE_EPOCH" ]; then LC_ALL=C date -u -d "@$$SOURCE_DATE_EPOCH" '+%B %-d, %Y'; else \
  git log -1 --format=%cd --date=format:'%B %-d, %Y' 2>/dev/null || LC_ALL=C date -u '+%B %-d, %Y'; fi)
.PHONY: man
man: build/release/manual
	@mkdir -p build/man
	build/release/manual | sed 's/[$$]Mdocdate[$$]/$(MAN_DATE)/' >build/man/proxy.conf.5
	for page in packaging/man/*.8; do sed 's/[$$]Mdocdate[$$]/$(MAN_DATE)/' "$$page" >"build/man/$${page##*/}" || exit; done

.PHONY: install uninstall
install: build/postern man
	install -d -m 755 $(DESTDIR)$(MANDIR)/man8 $(DESTDIR)$(MANDIR)/man5
	install -m 644 build/man/*.8 $(DESTDIR)$(MANDIR)/man8
	install -m 644 build/man/*.5 $(DESTDIR)$(MANDIR)/man5
	install -D -m 755 build/postern $(DESTDIR)$(BINDIR)/postern
	install -d -m 755 $(DESTDIR)$(DOCDIR) $(DESTDIR)$(UNITDIR)
	install -m 644 README.md docs/*.md docs/openapi.yaml proxy.conf \
	  packaging/prometheus-rules.yml packaging/grafana-dashboard.json $(DESTDIR)$(DOCDIR)
	sed -e 's|@BINDIR@|$(BINDIR)|g' -e 's|@CONFDIR@|$(CONFDIR)|g' -e 's|@DOCDIR@|$(DOCDIR)|g' \
	  packaging/postern.service.in >$(DESTDIR)$(UNITDIR)/postern.service
	chmod 644 $(DESTDIR)$(UNITDIR)/postern.service
	install -m 644 packaging/postern.socket $(DESTDIR)$(UNITDIR)/postern.socket
	install -D -m 644 packaging/sysusers.conf $(DESTDIR)$(SYSUSERSDIR)/postern.conf
	install -D -m 644 packaging/tmpfiles.conf $(DESTDIR)$(TMPFILESDIR)/postern.conf
	install -D -m 644 packaging/logrotate.conf $(DESTDIR)$(LOGROTATEDIR)/postern
	install -D -m 644 packaging/completion/postern.bash $(DESTDIR)$(BASHDIR)/postern
	install -D -m 644 packaging/completion/_postern $(DESTDIR)$(ZSHDIR)/_postern
	test -e $(DESTDIR)$(CONFDIR)/proxy.conf || { \
	  install -d -m 755 $(DESTDIR)$(CONFDIR) && \
	  sed -e 's|^state_dir = .*|state_dir = "/var/lib/postern"|' proxy.conf >$(DESTDIR)$(CONFDIR)/proxy.conf && \
	  chmod 640 $(DESTDIR)$(CONFDIR)/proxy.conf; }

uninstall:
	rm -f $(DESTDIR)$(BINDIR)/postern $(DESTDIR)$(UNITDIR)/postern.service $(DESTDIR)$(UNITDIR)/postern.socket $(DESTDIR)$(SYSUSERSDIR)/postern.conf
	rm -f $(DESTDIR)$(TMPFILESDIR)/postern.conf $(DESTDIR)$(LOGROTATEDIR)/postern
	rm -f $(addprefix $(DESTDIR)$(MANDIR)/man8/,$(notdir $(wildcard packaging/man/*.8))) $(DESTDIR)$(MANDIR)/man5/proxy.conf.5
	rm -f $(DESTDIR)$(BASHDIR)/postern $(DESTDIR)$(ZSHDIR)/_postern
	rm -rf $(DESTDIR)$(DOCDIR)

clean:
	rm -rf build

-include $(shell find build -name '*.d' 2>/dev/null)
