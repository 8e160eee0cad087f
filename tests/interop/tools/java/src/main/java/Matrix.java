import dev.zarr.zarrjava.core.Attributes;
import dev.zarr.zarrjava.store.FilesystemStore;
import dev.zarr.zarrjava.store.StoreHandle;
import dev.zarr.zarrjava.v3.Array;
import dev.zarr.zarrjava.v3.DataType;
import dev.zarr.zarrjava.v3.Group;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** Documents through zarr-java's nodes, chunks through its store, as its arrays do: `write` writes, both read. */
public class Matrix {
	static ByteBuffer chunk(int row, int column) {
		ByteBuffer out = ByteBuffer.allocate(2 * 3 * 4).order(ByteOrder.LITTLE_ENDIAN);
		for (int i = 0; i < 2; i++)
			for (int j = 0; j < 3; j++)
				out.putInt((row * 2 + i) * 6 + column * 3 + j);
		out.flip();
		return out;
	}

	static StoreHandle at(FilesystemStore store, int row, int column) {
		return store.resolve("a", "c", "" + row, "" + column);
	}

	public static void main(String[] args) throws Exception {
		FilesystemStore store = new FilesystemStore(args[1]);
		if (args[0].equals("write")) {
			Group root = Group.create(store.resolve());
			Array a = root.createArray("a", b -> b.withShape(8, 6).withDataType(DataType.INT32)
				.withChunkShape(2, 3).withFillValue(0).withCodecs(c -> c.withBytes("LITTLE")));
			for (int i = 0; i < 4; i++)
				for (int j = 0; j < 2; j++) {
					at(store, i, j).set(ByteBuffer.wrap(new byte[100]));
					at(store, i, j).set(chunk(i, j));
				}
			for (int i = 2; i < 4; i++)
				for (int j = 0; j < 2; j++)
					at(store, i, j).delete();
			Attributes attributes = new Attributes();
			attributes.put("by", "zarr-java");
			a.resize(new long[] {4, 6}).setAttributes(attributes);
		}
		Array a = Array.open(store.resolve("a"));
		if (a.metadata().shape[0] != 4 || !"zarr-java".equals(a.metadata().attributes.getString("by")))
			throw new AssertionError(a.metadata().toString());
		for (int i = 0; i < 4; i++)
			for (int j = 0; j < 2; j++)
				if (i < 2 && !chunk(i, j).equals(at(store, i, j).readNonNull()) || i >= 2 && at(store, i, j).exists())
					throw new AssertionError("chunk " + i + ", " + j);
	}
}
