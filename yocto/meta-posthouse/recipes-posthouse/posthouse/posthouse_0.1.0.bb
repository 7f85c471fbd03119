# nooelint: oelint.var.bbclassextend - a gateway runs on the target only
SUMMARY = "Gateway that buys firmware updates for the sensors behind it"
DESCRIPTION = "Follows the bounties that vendors post on Ethereum for the delivery of their firmware, buys it from whoever delivers, proves each step, and hands it over to sleepy sensors by MQTT or CoAP."
HOMEPAGE = "https://github.com/posthouse/posthouse"
BUGTRACKER = "https://github.com/posthouse/posthouse/issues"
SECTION = "net"
# In the form that both releases read; blacksail warns of it.
LICENSE = "(MIT | Apache-2.0)"
LIC_FILES_CHKSUM = "\
    file://LICENSE-APACHE;md5=22a53954e4e0ec258dfce4391e905dac \
    file://LICENSE-MIT;md5=36b13c53d26646a264e5dea8a3f0853e \
"
CVE_PRODUCT = "posthouse"

SRC_URI = "git://github.com/posthouse/posthouse.git;protocol=https;branch=main"
SRCREV = "ac5e06d836ce7d474b9ee8e6853fe64c20d7cee0"

require posthouse-crates.inc
require posthouse-licenses.inc

# The workspace's rust-version. Where the distribution has an older one, BitBake does not take the recipe, and says why.
SKIP_RECIPE[posthouse] ?= "${@'' if bb.utils.vercmp_string_op((d.getVar('RUSTVERSION') or '99').rstrip('%'), '1.95', '>=') else 'it needs Rust 1.95, and RUSTVERSION is ' + d.getVar('RUSTVERSION')}"

inherit cargo cargo-update-recipe-crates systemd useradd

# What a gateway of 64 MiB leaves out is the page for people and QUIC.
PACKAGECONFIG ??= "full"
PACKAGECONFIG[full] = "--features gateway-full,--features gateway-small"

CARGO_BUILD_FLAGS:append = " --package posthouse-agent --bin posthouse --no-default-features"

# BitBake strips, and keeps the symbols in a package of their own.
export CARGO_PROFILE_RELEASE_STRIP = "false"

SYSTEMD_SERVICE:${PN} = "posthouse.service"
# It needs a chain, a broker and its sensors in the configuration before it can start.
SYSTEMD_AUTO_ENABLE = "disable"

USERADD_PACKAGES = "${PN}"
USERADD_PARAM:${PN} = "--system --home-dir ${localstatedir}/lib/posthouse --no-create-home --shell ${base_sbindir}/nologin --user-group posthouse"

do_install:append() {
    install -D -m 0644 ${S}/packaging/config/posthouse.toml ${D}${sysconfdir}/posthouse/posthouse.toml
    install -D -m 0644 ${S}/systemd/posthouse.service ${D}${systemd_system_unitdir}/posthouse.service
}

FILES:${PN} += "${systemd_system_unitdir}/posthouse.service"
CONFFILES:${PN} = "${sysconfdir}/posthouse/posthouse.toml"
RRECOMMENDS:${PN} = "ca-certificates"
