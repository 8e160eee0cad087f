import FileSystemStore from "@zarrita/storage/fs";
import * as zarr from "zarrita";

const root = zarr.root(new FileSystemStore(process.argv[2]));
await zarr.create(root, { attributes: {} });
const a = await zarr.create(root.resolve("a"), {
	shape: [4, 6], chunkShape: [2, 3], dtype: "int32", fillValue: 0,
	codecs: [{ name: "bytes", configuration: { endian: "little" } }],
});
await zarr.set(a, null, { data: Int32Array.from({ length: 24 }, (_, i) => i), shape: [4, 6], stride: [6, 1] });
const back = await zarr.get(a);
if (back.data.some((v, i) => v !== i)) throw new Error("read back differs");
