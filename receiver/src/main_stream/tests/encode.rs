//! A source's side of the main stream, as little of it as the tests need.

/// Bytes of a stream that grows.
pub(super) struct Source {
    pub(super) bytes: Vec<u8>,
    pub(super) page_bytes: u64,
    footers: bool,
    devices: Vec<String>,
}

impl Source {
    pub(super) fn new(footers: bool) -> Self {
        Self { bytes: Vec::new(), page_bytes: 4096, footers, devices: Vec::new() }
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(super) fn be32(&mut self, number: u32) -> &mut Self {
        self.raw(&number.to_be_bytes())
    }

    pub(super) fn be64(&mut self, number: u64) -> &mut Self {
        self.raw(&number.to_be_bytes())
    }

    pub(super) fn cstr(&mut self, name: &str) -> &mut Self {
        self.raw(&[u8::try_from(name.len()).unwrap()]).raw(name.as_bytes())
    }

    pub(super) fn header(&mut self) -> &mut Self {
        self.raw(b"QEVM\0\0\0\x03")
    }

    pub(super) fn configuration(&mut self, machine: &str) -> &mut Self {
        self.raw(&[7]).be32(u32::try_from(machine.len()).unwrap()).raw(machine.as_bytes())
    }

    pub(super) fn configuration_with_page_bits(&mut self, machine: &str, bits: u32) -> &mut Self {
        self.configuration(machine).raw(&[5]).cstr("configuration/target-page-bits");
        self.be32(1).be32(bits)
    }

    pub(super) fn configuration_with_capability(&mut self, machine: &str, name: &str) -> &mut Self {
        self.configuration(machine).raw(&[5]).cstr("configuration/capabilities");
        self.be32(1).be32(1).cstr(name)
    }

    pub(super) fn command(&mut self, id: u16, payload: &[u8]) -> &mut Self {
        let length = u16::try_from(payload.len()).unwrap();
        self.raw(&[8]).raw(&id.to_be_bytes()).raw(&length.to_be_bytes()).raw(payload)
    }

    pub(super) fn advise(&mut self, summary: u64) -> &mut Self {
        self.command(3, &[summary.to_be_bytes(), 4096u64.to_be_bytes()].concat())
    }

    pub(super) fn start(
        &mut self,
        kind: u8,
        id: u32,
        idstr: &str,
        instance: u32,
        version: u32,
    ) -> &mut Self {
        self.raw(&[kind]).be32(id).cstr(idstr).be32(instance).be32(version)
    }

    pub(super) fn ram_start(&mut self, id: u32, blocks: &[(&str, u64)]) -> &mut Self {
        self.start(1, id, "ram", 0, 4).blocks(blocks)
    }

    pub(super) fn blocks(&mut self, blocks: &[(&str, u64)]) -> &mut Self {
        let total: u64 = blocks.iter().map(|(_, used_bytes)| used_bytes).sum();
        self.be64(total | 0x04);
        for (name, used_bytes) in blocks {
            self.cstr(name).be64(*used_bytes);
        }
        self
    }

    /// PART (2) or END (3).
    pub(super) fn go_on(&mut self, kind: u8, id: u32) -> &mut Self {
        self.raw(&[kind]).be32(id)
    }

    pub(super) fn footer(&mut self, id: u32) -> &mut Self {
        if self.footers {
            self.raw(&[0x7e]).be32(id);
        }
        self
    }

    pub(super) fn eos(&mut self) -> &mut Self {
        self.be64(0x10)
    }

    pub(super) fn flush(&mut self) -> &mut Self {
        self.be64(0x200)
    }

    pub(super) fn zero(&mut self, block: &str, offset: u64) -> &mut Self {
        self.be64(offset | 0x02).cstr(block).raw(&[0])
    }

    pub(super) fn zero_continued(&mut self, offset: u64) -> &mut Self {
        self.be64(offset | 0x22).raw(&[0])
    }

    pub(super) fn page(&mut self, block: &str, offset: u64, fill: u8) -> &mut Self {
        let page = vec![fill; usize::try_from(self.page_bytes).unwrap()];
        self.be64(offset | 0x08).cstr(block).raw(&page)
    }

    pub(super) fn page_continued(&mut self, offset: u64, fill: u8) -> &mut Self {
        let page = vec![fill; usize::try_from(self.page_bytes).unwrap()];
        self.be64(offset | 0x28).raw(&page)
    }

    /// A device's section, and its entry in the description.
    pub(super) fn device(&mut self, id: u32, idstr: &str, instance: u32, body: &[u8]) -> &mut Self {
        self.start(4, id, idstr, instance, 2).raw(body).footer(id);
        self.describe(idstr, instance, body.len())
    }

    /// Only the entry in the description.
    pub(super) fn describe(&mut self, idstr: &str, instance: u32, bytes: usize) -> &mut Self {
        self.devices.push(format!(
            r#"{{"name": "{idstr}", "instance_id": {instance}, "vmsd_name": "{idstr}", "version": 2, "fields": [{{"name": "data", "type": "buffer", "size": {bytes}}}]}}"#
        ));
        self
    }

    /// EOF and description.
    pub(super) fn end(&mut self) -> &mut Self {
        let text = format!(r#"{{"page_size": 4096, "devices": [{}]}}"#, self.devices.join(", "));
        self.raw(&[0, 6]).be32(u32::try_from(text.len()).unwrap()).raw(text.as_bytes())
    }
}

/// Body of the section `globalstate`, 10.0 and later.
pub(super) fn global_state(name: &str) -> Vec<u8> {
    let mut body = u32::try_from(name.len() + 1).unwrap().to_be_bytes().to_vec();
    body.extend(name.as_bytes());
    body.resize(4 + 32, 0);
    body.extend([1, 0]);
    body.resize(4 + 100, 0);
    body
}
