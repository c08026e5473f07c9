//! The main stream's frame: header, configuration, sections, footers, commands, the end.
//! (QEMU: migration/savevm.c.)

use super::Append;

/// The first eight bytes of main: magic and version 3.
pub fn header(out: &mut Vec<u8>) {
    out.be32(MAGIC);
    out.be32(VERSION);
}

/// The configuration section up to the machine type's name; subsections follow.
pub fn configuration(out: &mut Vec<u8>, machine: &str) {
    out.byte(CONFIGURATION);
    out.be32(u32::try_from(machine.len()).expect("a machine type's name is short"));
    out.extend_from_slice(machine.as_bytes());
}

/// The head of a subsection, version 1; its body follows.
pub fn subsection(out: &mut Vec<u8>, name: &str) {
    out.byte(SUBSECTION);
    out.counted(name);
    out.be32(1);
}

/// `configuration/uuid`.
pub fn configuration_uuid(out: &mut Vec<u8>, uuid: &[u8; 16]) {
    subsection(out, "configuration/uuid");
    out.extend_from_slice(uuid);
}

/// `configuration/capabilities`: those that change the stream.
pub fn configuration_capabilities(out: &mut Vec<u8>, names: &[&str]) {
    subsection(out, "configuration/capabilities");
    out.be32(u32::try_from(names.len()).expect("there are few capabilities"));
    for name in names {
        out.counted(name);
    }
}

/// `configuration/target-page-bits`.
pub fn configuration_page_bits(out: &mut Vec<u8>, page_bytes: u32) {
    subsection(out, "configuration/target-page-bits");
    out.be32(page_bytes.ilog2());
}

/// The head of a section that names its device: START of an iterable one or FULL of any other.
#[derive(Clone, Copy, Debug)]
pub struct SectionHead<'a> {
    /// The source's number for the section.
    pub id: u32,
    /// The device's name.
    pub idstr: &'a str,
    /// Which of several devices of that name.
    pub instance: u32,
    /// The version of the section's layout.
    pub version: u32,
}

/// SECTION_START.
pub fn section_start(out: &mut Vec<u8>, head: SectionHead<'_>) {
    section_head(out, SECTION_START, head);
}

/// SECTION_FULL.
pub fn section_full(out: &mut Vec<u8>, head: SectionHead<'_>) {
    section_head(out, SECTION_FULL, head);
}

/// SECTION_PART.
pub fn section_part(out: &mut Vec<u8>, id: u32) {
    out.byte(SECTION_PART);
    out.be32(id);
}

/// SECTION_END.
pub fn section_end(out: &mut Vec<u8>, id: u32) {
    out.byte(SECTION_END);
    out.be32(id);
}

/// The footer that closes the section `id`.
pub fn footer(out: &mut Vec<u8>, id: u32) {
    out.byte(SECTION_FOOTER);
    out.be32(id);
}

/// A command with its payload.
///
/// # Panics
/// When the payload is longer than a command can say: 65535 bytes.
pub fn command(out: &mut Vec<u8>, command: Command, payload: &[u8]) {
    out.byte(COMMAND);
    out.be16(command as u16);
    out.be16(u16::try_from(payload.len()).expect("a command's payload has at most 65535 bytes"));
    out.extend_from_slice(payload);
}

/// The end of the sections.
pub fn eof(out: &mut Vec<u8>) {
    out.byte(EOF);
}

/// The description of the device state, after [`eof`].
pub fn vmdesc(out: &mut Vec<u8>, json: &str) {
    out.byte(VMDESCRIPTION);
    out.be32(u32::try_from(json.len()).expect("the description is far below 4 GiB"));
    out.extend_from_slice(json.as_bytes());
}

/// The commands that a precopy source sends (QEMU: `enum qemu_vm_cmd`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Command {
    /// The destination may now write.
    OpenReturnPath = 1,
    /// To be answered by PONG with the same be32.
    Ping = 2,
    /// Postcopy may come: two be64, or nothing when only dirty bitmaps are concerned.
    PostcopyAdvise = 3,
    /// The guest has stopped.
    SwitchoverStart = 11,
}

/// "QEVM".
pub const MAGIC: u32 = 0x5145_564d;
/// The only version in use.
pub const VERSION: u32 = 3;

fn section_head(out: &mut Vec<u8>, kind: u8, head: SectionHead<'_>) {
    out.byte(kind);
    out.be32(head.id);
    out.counted(head.idstr);
    out.be32(head.instance);
    out.be32(head.version);
}

const EOF: u8 = 0x00;
const SECTION_START: u8 = 0x01;
const SECTION_PART: u8 = 0x02;
const SECTION_END: u8 = 0x03;
const SECTION_FULL: u8 = 0x04;
const SUBSECTION: u8 = 0x05;
const VMDESCRIPTION: u8 = 0x06;
const CONFIGURATION: u8 = 0x07;
const COMMAND: u8 = 0x08;
const SECTION_FOOTER: u8 = 0x7e;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::hex;

    fn bytes(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn the_opening_is_the_golden_one_of_10_0() {
        let opening = bytes(|out| {
            header(out);
            configuration(out, "pc-q35-10.0");
            command(out, Command::OpenReturnPath, &[]);
            command(out, Command::Ping, &1u32.to_be_bytes());
            section_start(out, SectionHead { id: 1, idstr: "ram", instance: 0, version: 4 });
        });
        let golden = "51 45 56 4d 00 00 00 03 07 00 00 00 0b 70 63 2d 71 33 35 2d 31 30 2e 30
            08 00 01 00 00   08 00 02 00 04 00 00 00 01
            01 00 00 00 01 03 72 61 6d 00 00 00 00 00 00 00 04";
        assert_eq!(opening, hex(golden));
    }

    #[test]
    fn the_switchover_is_the_golden_one_of_10_0() {
        let switchover = bytes(|out| {
            footer(out, 1);
            command(out, Command::SwitchoverStart, &[]);
            section_end(out, 1);
            crate::encode::ram::flush(out);
            crate::encode::ram::end(out);
            footer(out, 1);
            section_full(out, SectionHead { id: 0, idstr: "timer", instance: 0, version: 2 });
        });
        let golden = "7e 00000001 08 000b 0000 03 00000001 0000000000000200 0000000000000010
            7e 00000001 04 00000000 05 74696d6572 00000000 00000002";
        assert_eq!(switchover, hex(golden));
    }

    #[test]
    fn advise_and_part_are_golden() {
        let mut payload = 0x1000u64.to_be_bytes().to_vec();
        payload.extend_from_slice(&0x1000u64.to_be_bytes());
        let advise = bytes(|out| command(out, Command::PostcopyAdvise, &payload));
        assert_eq!(advise, hex("08 0003 0010 0000000000001000 0000000000001000"));
        assert_eq!(bytes(|out| section_part(out, 1)), hex("02 00000001"));
    }

    #[test]
    fn the_end_is_the_golden_one_of_7_2() {
        let end = bytes(|out| {
            footer(out, 0x28);
            eof(out);
            vmdesc(out, &format!("{{\"page_size\"{}", " ".repeat(0xb15b - 12)));
        });
        assert_eq!(
            end[..23],
            hex("7e 00000028 00 06 0000b15b 7b 22 70 61 67 65 5f 73 69 7a 65 22")
        );
    }

    #[test]
    fn subsections_carry_their_name_and_version() {
        let uuid = bytes(|out| configuration_uuid(out, &[0xab; 16]));
        assert_eq!(uuid[..2], [0x05, 18]);
        assert_eq!(&uuid[2..20], b"configuration/uuid");
        assert_eq!(uuid[20..24], [0, 0, 0, 1]);
        assert_eq!(uuid[24..], [0xab; 16]);
        let capabilities = bytes(|out| configuration_capabilities(out, &["mapped-ram"]));
        let golden = b"\x05\x1aconfiguration/capabilities\0\0\0\x01\0\0\0\x01\x0amapped-ram";
        assert_eq!(capabilities, golden);
        let bits = bytes(|out| configuration_page_bits(out, 65536));
        assert_eq!(bits[bits.len() - 4..], [0, 0, 0, 16]);
    }
}
